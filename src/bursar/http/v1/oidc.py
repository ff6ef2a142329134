"""/v1/auth/oidc: sign in with an OpenID Connect issuer, in a browser.

    GET start     →  302 to the issuer, with a cookie that holds the attempt
    GET callback  →  an access token: as JSON, or in the fragment of a path of ours

The cookie binds the answer to the browser that asked. A fragment never reaches a server or its log.

Not here: the protocol (`identity.oidc`), whose account it is (`identity.sign_in`).
"""

from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from bursar.core.errors import InvalidInput, NotFound, Unauthenticated
from bursar.http.v1.auth_answers import login_body, no_store
from bursar.identity.oidc import Oidc
from bursar.identity.oidc_attempts import LIFE_MICROS, seal, unseal
from bursar.identity.sign_in import SignIn
from bursar.web.problems import encode

COOKIE = "bursar_sign_in"
PATH = "/v1/auth/oidc"
_FOUND = 302
_SEE_OTHER = 303
_MICROS = 1_000_000

Code = Annotated[str, Query(max_length=4_096, description="What we exchange at the issuer.")]
Text = Annotated[str, Query(max_length=512)]


class OidcParts(NamedTuple):
    """What the routes work with.

    Attributes:
        oidc: The issuer; None when none is configured.
        label: What a button says.
        key: Signs the cookie.
        is_https: Whether browsers reach this server by TLS only.
        is_strict: Told to whoever draws a sign-up form.
    """

    oidc: Oidc | None
    sign_in: SignIn
    label: str
    key: bytes
    is_https: bool
    is_strict: bool

    def issuer(self) -> Oidc:
        """Return the issuer.

        Raises:
            NotFound: None is configured.
        """
        if self.oidc is None:
            raise NotFound("no sign-in issuer is configured; set oidc_issuer")
        return self.oidc

    def now(self) -> int:
        """Return the time in microseconds UTC, by the issuer's clock."""
        return self.issuer().now()


def oidc_router(parts: OidcParts) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/auth", tags=["auth"], dependencies=[Depends(no_store)])

    @router.get("/methods", operation_id="auth_methods")
    async def methods() -> dict[str, object]:
        """Tell how people may sign in, for whoever draws the form."""
        oidc = {"label": parts.label, "start": f"{PATH}/start"} if parts.oidc is not None else None
        return {"password": True, "strict_sign_up": parts.is_strict, "oidc": oidc}

    @router.get("/oidc/start", status_code=_FOUND, operation_id="auth_oidc_start", response_class=Response)
    async def start(return_to: Text = "") -> Response:
        """Send the browser to the issuer; `return_to` is a path of ours to come back to."""
        url, attempt = await parts.issuer().begin(_own_path(return_to))
        answer = RedirectResponse(url, _FOUND, headers={"Cache-Control": "no-store"})
        answer.set_cookie(
            COOKIE,
            seal(attempt, parts.key),
            max_age=LIFE_MICROS // _MICROS,
            path=PATH,
            secure=parts.is_https,
            httponly=True,
            samesite="lax",
        )
        return answer

    @router.get("/oidc/callback", operation_id="auth_oidc_callback", response_model=None)
    async def callback(
        request: Request, state: Text = "", code: Code = "", error: Text = "", iss: Text = ""
    ) -> Response:
        """Take the issuer's answer, and log in."""
        issuer = parts.issuer()
        attempt = unseal(request.cookies.get(COOKIE, ""), state, parts.key, parts.now())
        if error or not code:
            raise Unauthenticated("Unauthorized: the issuer did not sign you in; begin again")
        claims = await issuer.finish(attempt, code, issuer=iss)
        body = login_body(await parts.sign_in.by_issuer(claims))
        answer = _answer(body, attempt.return_to)
        answer.delete_cookie(COOKIE, path=PATH, secure=parts.is_https, httponly=True, samesite="lax")
        return answer

    return router


def _answer(body: dict[str, object], return_to: str) -> Response:
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    if not return_to:
        return Response(encode(body), media_type="application/json", headers=headers)
    shown = {name: body[name] for name in ("access_token", "token_type", "expires_in")}
    return RedirectResponse(f"{return_to}#{urlencode(shown)}", _SEE_OTHER, headers=headers)


def _own_path(text: str) -> str:
    """Return a path of this server, empty for none.

    Raises:
        InvalidInput: It would lead somewhere else.
    """
    is_path = text.startswith("/") and not text.startswith("//") and "\\" not in text and "#" not in text
    if text and not (is_path and text.isascii() and text.isprintable()):
        raise InvalidInput("return_to must be a path of this server, such as /", field="return_to")
    return text
