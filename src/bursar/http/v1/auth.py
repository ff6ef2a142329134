"""/v1/auth: sign up, prove the address, log in, and what a person does with the own account.

Whether an address is known is told only where the reference fixes it: 409 at sign-up, 404 at verify-email;
both are counted, and the setting `strict_sign_up` has them answered like any other. Everywhere else a known
and an unknown address get the same answer after the same work.

Not here: OIDC (`oidc`), the first owner (`first_run`), an organisation's people (`members`).
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bursar.capture import checks
from bursar.core.errors import Conflict, NotFound, RateLimited, Unauthenticated
from bursar.core.ids import text_from_id
from bursar.delivery import mail_texts
from bursar.delivery.mail import MailQueue
from bursar.http.v1.auth_answers import (
    address_of,
    login_body,
    no_store,
    profile_body,
    wrong_code,
)
from bursar.http.v1.auth_forms import (
    Acceptance,
    Address,
    CodeShown,
    CodeWanted,
    Credentials,
    NewPassword,
    PasswordChange,
    Place,
    Registration,
    TokenShown,
)
from bursar.identity.accounts import Accounts, Issued, WrongCode
from bursar.identity.codes import Purpose
from bursar.identity.sign_in import SignIn
from bursar.identity.tokens import RESET_S
from bursar.identity.users import Membership, normal_email
from bursar.web.guard import Guard
from bursar.web.principal import Principal

STRICT_STEP_S = 0.5
"""Where sign-ups are answered alike, their answers come at whole steps after the question."""

_SENT = "If this address can have a code, it is on its way; it is good for ten minutes."


class AuthParts(NamedTuple):
    """What the routes work with.

    Attributes:
        accounts: Whose accounts.
        sign_in: For invitations.
        mails: Takes what is to be sent.
        is_strict: Whether sign-ups are answered alike whether an address is known or not.
    """

    accounts: Accounts
    sign_in: SignIn
    mails: MailQueue
    is_strict: bool

    def post_code(self, issued: Issued, purpose: Purpose) -> None:
        """Mail a code to whom it was made for, if to anybody."""
        if issued.user is not None:
            text = mail_texts.verification if purpose is Purpose.VERIFY else mail_texts.reset
            self.mails.post(text(issued.user.email, issued.code))


def auth_router(guard: Guard, parts: AuthParts) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/auth", tags=["auth"], dependencies=[Depends(no_store)])
    _add_sign_up(router, parts)
    _add_login(router, parts)
    _add_reset(router, parts)
    _add_own_account(router, guard, parts.accounts, parts.mails)
    _add_invitation(router, guard, parts)
    return router


def _add_sign_up(router: APIRouter, parts: AuthParts) -> None:
    accounts = parts.accounts

    @router.post("/register", status_code=201, operation_id="auth_register")
    async def register(body: Registration, request: Request) -> dict[str, object]:
        """Make an organisation and its owner; a code that proves the address goes out by mail."""
        if parts.is_strict:
            await _at_whole_steps(_register_strictly(parts, body, address_of(request)))
        else:
            issued = await _register(accounts, body, address_of(request))
            parts.post_code(issued, Purpose.VERIFY)
        return {
            "message": "Verification code sent",
            "email": normal_email(body.email),
            "requires_verification": True,
        }

    @router.post("/verify-email", operation_id="auth_verify_email", response_model=None)
    async def verify_email(body: CodeShown, request: Request) -> dict[str, object] | Response:
        """Prove the address by the code, and log in."""
        try:
            signed = await accounts.verify_email(body.email, body.code, address=address_of(request))
        except WrongCode as error:
            # Asked only after the guess was counted, so that it cannot be asked often.
            if not parts.is_strict and await accounts.users.find_by_email(normal_email(body.email)) is None:
                raise NotFound("no user has this email; register first", field="email") from None
            return wrong_code(error)
        return login_body(signed)

    @router.post("/resend-otp", operation_id="auth_resend_otp")
    async def resend(body: CodeWanted, request: Request) -> dict[str, object]:
        """Mail a fresh code; the one before is over. The answer is the same for every address."""
        issued = await accounts.new_code(body.email, body.purpose, address=address_of(request))
        parts.post_code(issued, body.purpose)
        return {"message": _SENT}


def _add_login(router: APIRouter, parts: AuthParts) -> None:
    accounts = parts.accounts

    @router.post("/login", operation_id="auth_login")
    async def log_in(body: Credentials, request: Request) -> dict[str, object]:
        """Exchange address and password for an access token."""
        return login_body(await accounts.log_in(body.email, body.password, address=address_of(request)))

    @router.post("/refresh", operation_id="auth_refresh")
    async def refresh(request: Request, body: TokenShown | None = None) -> dict[str, object]:
        """Exchange an access token, up to 24 hours after its end, for a fresh one."""
        shown = body.refresh_token if body is not None else ""
        scheme, _, header = request.headers.get("authorization", "").partition(" ")
        text = shown or (header.strip() if scheme.lower() == "bearer" else "")
        if not text:
            raise Unauthenticated("Unauthorized: send the access token as 'Authorization: Bearer …'")
        return login_body(await accounts.refresh(text))


def _add_reset(router: APIRouter, parts: AuthParts) -> None:
    accounts = parts.accounts

    @router.post("/forgot-password", operation_id="auth_forgot_password")
    async def forgot(body: Address, request: Request) -> dict[str, object]:
        """Mail a code that allows a new password. Always the same answer, whoever is asked for."""
        try:
            issued = await accounts.new_code(body.email, Purpose.RESET, address=address_of(request))
        except RateLimited:
            # The reference promises 200; the limit is kept by sending nothing.
            issued = Issued(None, "")
        parts.post_code(issued, Purpose.RESET)
        return {"message": _SENT}

    @router.post("/verify-reset-code", operation_id="auth_verify_reset_code", response_model=None)
    async def verify_reset_code(body: CodeShown, request: Request) -> dict[str, object] | Response:
        """Exchange the code for a token that changes the password once, within five minutes."""
        try:
            token = await accounts.reset_token(body.email, body.code, address=address_of(request))
        except WrongCode as error:
            return wrong_code(error)
        return {"reset_token": token, "expires_in": RESET_S}

    @router.post("/reset-password", operation_id="auth_reset_password")
    async def reset_password(body: NewPassword) -> dict[str, object]:
        """Set a new password by the reset token; every session ends."""
        user = await accounts.reset_password(body.reset_token, body.new_password)
        parts.mails.post(mail_texts.password_changed(user.email))
        return {"message": "Password changed; log in"}


def _add_own_account(router: APIRouter, guard: Guard, accounts: Accounts, mails: MailQueue) -> None:
    Caller = Annotated[Principal, Depends(guard.user)]  # noqa: N806 - a type
    InSession = Annotated[Principal, Depends(guard.session)]  # noqa: N806 - a type

    @router.get("/me", operation_id="auth_me")
    async def me(caller: Caller) -> dict[str, object]:
        """Return the caller's profile, with the organisation that it acts in and all others."""
        user = await accounts.users.find(caller.user)
        places = await accounts.users.memberships(caller.user)
        place = next((one for one in places if one.org == caller.org), None)
        if user is None or place is None:
            raise Unauthenticated("Unauthorized: this user is gone")
        return profile_body(user, place, places)

    @router.post("/switch", operation_id="auth_switch")
    async def switch(body: Place, caller: InSession) -> dict[str, object]:
        """Return a token of the same session for another organisation of the caller."""
        place = _named(await accounts.users.memberships(caller.user), body.organisation)
        return login_body(await accounts.switch(caller.user, caller.session, place.org_id))

    @router.post("/change-password", operation_id="auth_change_password")
    async def change_password(body: PasswordChange, caller: InSession) -> dict[str, object]:
        """Set a new password by the old one. Every session ends; the token returned begins a fresh one."""
        signed = await accounts.change_password(caller.user, body.current_password, body.new_password)
        mails.post(mail_texts.password_changed(signed.user.email))
        return {"message": "Password changed", **login_body(signed)}

    @router.post("/logout", operation_id="auth_logout")
    async def log_out(caller: InSession) -> dict[str, object]:
        """End the session: every token of it is refused from now on."""
        await accounts.log_out(caller.session)
        return {"message": "Logged out"}


def _add_invitation(router: APIRouter, guard: Guard, parts: AuthParts) -> None:
    MaybeCaller = Annotated[Principal | None, Depends(guard.optional)]  # noqa: N806 - a type

    @router.post("/accept-invitation", operation_id="auth_accept_invitation")
    async def accept(body: Acceptance, caller: MaybeCaller) -> dict[str, object]:
        """Join an organisation by an invitation's code, and log in to it."""
        signed = await parts.sign_in.join(
            body.code,
            body.password,
            first_name=checks.optional_name(body.first_name, "first_name"),
            last_name=checks.optional_name(body.last_name, "last_name"),
            user_id=b"" if caller is None else caller.user,
        )
        return login_body(signed)


async def _register(accounts: Accounts, body: Registration, address: str) -> Issued:
    return await accounts.register(
        body.email,
        body.password,
        checks.name(body.org_name, "org_name"),
        first_name=checks.optional_name(body.first_name, "first_name"),
        last_name=checks.optional_name(body.last_name, "last_name"),
        address=address,
    )


async def _register_strictly(parts: AuthParts, body: Registration, address: str) -> None:
    """Register, or write to whoever has the address already; the caller learns nothing of it."""
    try:
        issued = await _register(parts.accounts, body, address)
    except Conflict:
        try:
            issued = await parts.accounts.new_code(body.email, Purpose.VERIFY, address=address)
        except RateLimited:
            return
        if issued.user is None:
            parts.mails.post(mail_texts.known_already(normal_email(body.email)))
    parts.post_code(issued, Purpose.VERIFY)


async def _at_whole_steps(work: Awaitable[None]) -> None:
    """Await `work`, and return at a whole step after the beginning: the exact time tells nothing."""
    begun = time.monotonic()
    try:
        await work
    finally:
        took = time.monotonic() - begun
        await asyncio.sleep(STRICT_STEP_S - took % STRICT_STEP_S)


def _named(places: list[Membership], wanted: str) -> Membership:
    for place in places:
        if wanted in {place.org_name, text_from_id("org", place.org_id)}:
            return place
    raise NotFound("you belong to no such organisation", field="organisation")
