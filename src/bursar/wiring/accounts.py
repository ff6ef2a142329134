"""The doors by which people come in, put together for `treasury`: password, invitation, issuer, first link.

Identity, settings  →  Doors  →  the routes below /v1/auth, and the mails that they send
"""

import hashlib
import hmac
from collections.abc import Callable

from fastapi import APIRouter

from bursar.core.ids import Org
from bursar.delivery.mail import ConsoleMailer, Mailer, MailQueue
from bursar.delivery.mail_smtp import SmtpMailer, SmtpServer
from bursar.directory.organisations import OrganisationStore
from bursar.http.v1.auth import AuthParts, auth_router
from bursar.http.v1.first_run import first_run_router
from bursar.http.v1.oidc import PATH, OidcParts, oidc_router
from bursar.http.v1.personal_tokens import personal_tokens_router
from bursar.identity.first_run import FirstRun
from bursar.identity.oidc import Oidc, OidcClient
from bursar.identity.sign_in import SignIn
from bursar.settings import Settings
from bursar.storage.sql.identity import SqlIdentity
from bursar.web.guard import Guard
from bursar.wiring.identity import Identity


class Doors:
    """One process's ways in.

    Args:
        settings: Mail server, issuer, strictness.
        identity: Accounts and people.
        stores: Of the open file.
        organisations: For the one that a domain opens.
        operator_token: A secret outside the database; the key of sign-in cookies comes from it.
        clock: Microseconds UTC.
        write: Prints what is for the console.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        stores: SqlIdentity,
        organisations: OrganisationStore,
        operator_token: str,
        *,
        clock: Callable[[], int],
        write: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._accounts = identity.accounts
        self._people = identity.people
        self._clock = clock
        self._organisations = organisations
        self._cookie_key = hmac.digest(operator_token.encode(), b"sign-in cookies", hashlib.sha256)
        self.mails = MailQueue(_mailer(settings, write))
        self.first_run = FirstRun(stores.first_run, identity.accounts, clock)
        self._sign_in = SignIn(
            identity.accounts,
            identity.people,
            stores.invitations,
            self.first_org,
            domains=settings.oidc_domains.split(","),
            clock=clock,
        )
        self._oidc = _issuer(settings, clock)

    async def first_org(self) -> Org | None:
        """Return the oldest organisation that is not deleted."""
        for organisation in await self._organisations.list():
            if organisation.deleted_at is None:
                return organisation.org
        return None

    def routers(self, guard: Guard) -> list[APIRouter]:
        """Return the routes below /v1/auth."""
        settings = self._settings
        parts = AuthParts(self._accounts, self._sign_in, self.mails, settings.strict_sign_up)
        oidc = OidcParts(
            self._oidc,
            self._sign_in,
            settings.oidc_label,
            self._cookie_key,
            is_https=settings.public_url.startswith("https://"),
            is_strict=settings.strict_sign_up,
        )
        return [
            auth_router(guard, parts),
            personal_tokens_router(guard, self._people, self._clock),
            first_run_router(self.first_run),
            oidc_router(oidc),
        ]


def _mailer(settings: Settings, write: Callable[[str], object]) -> Mailer:
    if not settings.smtp_host:
        return ConsoleMailer(write)
    return SmtpMailer(
        SmtpServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            user=settings.smtp_user,
            password=settings.smtp_password,
            security=settings.smtp_security,
            sender=settings.mail_from,
        )
    )


def _issuer(settings: Settings, clock: Callable[[], int]) -> Oidc | None:
    if not settings.oidc_issuer:
        return None
    client = OidcClient(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        redirect_uri=f"{settings.public_url}{PATH}/callback",
    )
    return Oidc(client, clock)
