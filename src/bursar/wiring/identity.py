"""The parts of people's accounts, put together for `treasury`.

store, clock  →  Identity  →  what `web.principal` recognises people by; what the routes of accounts call
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Callable

from bursar.identity.accounts import Accounts
from bursar.identity.passwords import Passwords
from bursar.identity.people import People
from bursar.identity.tokens import Tokens
from bursar.storage.sqlite.codes import SqliteCodes
from bursar.storage.sqlite.invitations import SqliteInvitations
from bursar.storage.sqlite.personal_tokens import SqlitePersonalTokens
from bursar.storage.sqlite.sessions import SqliteSessions
from bursar.storage.sqlite.signing_keys import SqliteSigningKeys
from bursar.storage.sqlite.store import SqliteStore
from bursar.storage.sqlite.users import SqliteUsers
from bursar.web.principal import Persons


class Identity:
    """One process's accounts.

    Args:
        store: Open.
        reader: For single look-ups.
        operator_token: A secret outside the database; the key of one-time codes' hashes comes from it.
        clock: Microseconds UTC.
    """

    def __init__(
        self,
        store: SqliteStore,
        reader: sqlite3.Connection,
        operator_token: str,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._forget: Callable[[], None] = _nothing
        self.passwords = Passwords()
        self.tokens = Tokens(SqliteSigningKeys(store, reader), clock)
        sessions = SqliteSessions(store, reader)
        personal_tokens = SqlitePersonalTokens(store, reader)
        self.persons = Persons(self.tokens, sessions, personal_tokens)
        self.accounts = Accounts(
            SqliteUsers(store, reader),
            sessions,
            SqliteCodes(store, reader),
            passwords=self.passwords,
            tokens=self.tokens,
            code_secret=hmac.digest(operator_token.encode(), b"one-time codes", hashlib.sha256),
            clock=clock,
            forget=self._changed,
        )
        self.people = People(
            self.accounts,
            SqliteInvitations(store, reader),
            personal_tokens,
            clock=clock,
            forget=self._changed,
        )

    def on_change(self, forget: Callable[[], None]) -> None:
        """Say what has to forget cached credentials when a session, token or role has changed."""
        self._forget = forget

    def close(self) -> None:
        """Wait for passwords that are being hashed."""
        self.passwords.close()

    def _changed(self) -> None:
        self._forget()


def _nothing() -> None:
    """Nothing is cached yet."""
