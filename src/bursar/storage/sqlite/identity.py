"""Everything of people in one SQLite file, opened together."""

import sqlite3

from bursar.storage.sqlite.codes import SqliteCodes
from bursar.storage.sqlite.first_run import SqliteFirstRun
from bursar.storage.sqlite.invitations import SqliteInvitations
from bursar.storage.sqlite.personal_tokens import SqlitePersonalTokens
from bursar.storage.sqlite.sessions import SqliteSessions
from bursar.storage.sqlite.signing_keys import SqliteSigningKeys
from bursar.storage.sqlite.store import SqliteStore
from bursar.storage.sqlite.users import SqliteUsers


class SqliteIdentity:
    """The stores of `identity.ports` that concern people."""

    def __init__(self, store: SqliteStore, reader: sqlite3.Connection) -> None:
        self.users = SqliteUsers(store, reader)
        self.sessions = SqliteSessions(store, reader)
        self.codes = SqliteCodes(store, reader)
        self.personal_tokens = SqlitePersonalTokens(store, reader)
        self.invitations = SqliteInvitations(store, reader)
        self.first_run = SqliteFirstRun(store, reader)
        self.signing_keys = SqliteSigningKeys(store, reader)
