"""The parts of people's accounts, put together for `treasury`.

stores, clock  →  Identity  →  what `web.principal` recognises people by; what the routes of accounts call
"""

import hashlib
import hmac
from collections.abc import Callable

from fastapi import APIRouter

from bursar.delivery.mail import MailQueue
from bursar.directory.organisations import OrganisationStore
from bursar.http.v1.audit import audit_router
from bursar.http.v1.members import MemberRoutes, members_router
from bursar.identity.accounts import Accounts
from bursar.identity.audit_log import AuditReader
from bursar.identity.passwords import Passwords
from bursar.identity.people import People
from bursar.identity.tokens import Tokens
from bursar.storage.sql.identity import SqlIdentity
from bursar.web.guard import Guard
from bursar.web.principal import Persons


class Identity:
    """One process's accounts.

    Args:
        stores: Open.
        operator_token: A secret outside the database; the key of one-time codes' hashes comes from it.
        clock: Microseconds UTC.
    """

    def __init__(self, stores: SqlIdentity, operator_token: str, *, clock: Callable[[], int]) -> None:
        self._forget: Callable[[], None] = _nothing
        self.passwords = Passwords()
        self.tokens = Tokens(stores.signing_keys, clock)
        self.persons = Persons(self.tokens, stores.sessions, stores.personal_tokens)
        self.accounts = Accounts(
            stores.users,
            stores.sessions,
            stores.codes,
            passwords=self.passwords,
            tokens=self.tokens,
            code_secret=hmac.digest(operator_token.encode(), b"one-time codes", hashlib.sha256),
            clock=clock,
            forget=self._changed,
        )
        self.people = People(
            self.accounts, stores.invitations, stores.personal_tokens, clock=clock, forget=self._changed
        )

    def on_change(self, forget: Callable[[], None]) -> None:
        """Say what has to forget cached credentials when a session, token or role has changed."""
        self._forget = forget

    def routers(
        self,
        guard: Guard,
        organisations: OrganisationStore,
        audit: AuditReader,
        mails: MailQueue,
        public_url: str,
    ) -> list[APIRouter]:
        """Return the routes of members and of the audit log."""
        return [
            members_router(guard, MemberRoutes(self.people, organisations, mails, public_url)),
            audit_router(guard, audit),
        ]

    def close(self) -> None:
        """Wait for passwords that are being hashed."""
        self.passwords.close()

    def _changed(self) -> None:
        self._forget()


def _nothing() -> None:
    """Nothing is cached yet."""
