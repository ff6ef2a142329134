"""What the routes of accounts answer, in the words of several products at once.

A login's body is a union: AgentKavach reads `access_token`, `token_type` and `expires_in`, AI Cost Guard's
command line `accessToken`, `refreshToken` and `user`. An access token is its own refresh token: it is taken
for a fresh one up to 24 hours after its end, as long as its session stands.
"""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request
from starlette.responses import Response

from bursar.core.ids import text_from_id
from bursar.core.time import MICROS_PER_SECOND, text_from_micros
from bursar.identity.accounts import SignedIn, WrongCode
from bursar.identity.sessions import ACCESS_MICROS
from bursar.identity.users import Membership, User
from bursar.web.problems import PROBLEM_TYPE, encode, problem

_BAD_REQUEST = 400
_SUBSCRIBER_BITS = 64


def no_store(response: Response) -> None:
    """Keep answers with credentials out of every cache."""
    response.headers["Cache-Control"] = "no-store"


def address_of(request: Request) -> str:
    """Return the caller's network address, by which attempts are counted; empty when there is none.

    Of an IPv6 address the network alone: one subscriber has all of it.
    """
    text = request.client.host if request.client else ""
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> _SUBSCRIBER_BITS:x}/64"
    return text


def wrong_code(error: WrongCode) -> Response:
    """Return the refusal of a code: 400, as the reference has it."""
    body = problem(_BAD_REQUEST, error.code, error.detail, {"field": error.field})
    return Response(
        encode(body),
        status_code=_BAD_REQUEST,
        media_type=PROBLEM_TYPE.decode(),
        headers={"Cache-Control": "no-store"},
    )


def login_body(signed: SignedIn) -> dict[str, object]:
    """Return a fresh token and whose it is."""
    return {
        "access_token": signed.token,
        "token_type": "bearer",
        "expires_in": ACCESS_MICROS // MICROS_PER_SECOND,
        "accessToken": signed.token,
        "refreshToken": signed.token,
        "user": user_body(signed.user, signed.membership),
    }


def user_body(user: User, place: Membership) -> dict[str, object]:
    """Return a user in one of its organisations."""
    return {
        "id": text_from_id("usr", user.id),
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "name": f"{user.first_name} {user.last_name}".strip(),
        "role": place.role.value,
        "org_id": text_from_id("org", place.org_id),
        "org_name": place.org_name,
    }


def profile_body(user: User, place: Membership, places: Sequence[Membership]) -> dict[str, object]:
    """Return a user with all of its organisations."""
    return {
        **user_body(user, place),
        "is_verified": user.verified_at is not None,
        "has_password": bool(user.password_hash),
        "created_at": text_from_micros(user.created_at),
        "organisations": [
            {"id": text_from_id("org", one.org_id), "name": one.org_name, "role": one.role.value}
            for one in places
        ],
    }
