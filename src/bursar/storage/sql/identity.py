"""Everything of people in one database, opened together."""

from bursar.storage.sql.codes import SqlCodes
from bursar.storage.sql.first_run import SqlFirstRun
from bursar.storage.sql.invitations import SqlInvitations
from bursar.storage.sql.personal_tokens import SqlPersonalTokens
from bursar.storage.sql.ports import Readers, Store
from bursar.storage.sql.sessions import SqlSessions
from bursar.storage.sql.signing_keys import SqlSigningKeys
from bursar.storage.sql.users import SqlUsers


class SqlIdentity:
    """The stores of `identity.ports` that concern people."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self.users = SqlUsers(store, readers)
        self.sessions = SqlSessions(store, readers)
        self.codes = SqlCodes(store, readers)
        self.personal_tokens = SqlPersonalTokens(store, readers)
        self.invitations = SqlInvitations(store, readers)
        self.first_run = SqlFirstRun(store, readers)
        self.signing_keys = SqlSigningKeys(store, readers)
