"""Sign-ins: `identity.ports.SessionStore`, and the question each token asks."""

from bursar.core.ids import Org
from bursar.identity.roles import Role
from bursar.identity.sessions import Session, Standing
from bursar.storage.sql.ports import EVERY_ORG, Readers, Row, Store, Transaction

_COLUMNS = "id, user, password_epoch, created_at, last_used_at, expires_at, ended_at"
_INSERT = f"INSERT INTO session ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_GET = f"SELECT {_COLUMNS} FROM session WHERE id = ?"
_LIST = f"""SELECT {_COLUMNS} FROM session
    WHERE user = ? AND ended_at IS NULL AND expires_at > ? ORDER BY created_at, id"""
_PROLONG = """UPDATE session SET last_used_at = ?1, expires_at = max(expires_at, ?2)
    WHERE id = ?3 AND ended_at IS NULL AND expires_at > ?1"""
_END = "UPDATE session SET ended_at = ? WHERE id = ? AND ended_at IS NULL"
_END_ALL = "UPDATE session SET ended_at = ? WHERE user = ? AND ended_at IS NULL"
_STANDING = """SELECT o.org, m.role, o.deleted_at
    FROM session AS s
    JOIN user_account AS u ON u.id = s.user AND u.password_epoch = s.password_epoch
    JOIN organisation AS o ON o.id = ?3
    JOIN membership AS m ON m.org = o.org AND m.user = s.user
    WHERE s.id = ?1 AND s.user = ?2 AND s.ended_at IS NULL AND s.expires_at > ?4
        AND u.disabled_at IS NULL AND u.verified_at IS NOT NULL"""


class SqlSessions:
    """`identity.ports.SessionStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def start(self, session: Session) -> None:
        """Store a new session."""
        await self._change(
            _INSERT,
            (session.id, session.user, session.password_epoch, session.created_at, session.last_used_at,
             session.expires_at, session.ended_at),
        )  # fmt: skip

    async def find(self, session_id: bytes) -> Session | None:
        """Return it, over or not."""
        row = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_GET, (session_id,)).fetchone()
        )
        return None if row is None else _session_from_row(row)

    async def prolong(self, session_id: bytes, *, at: int, expires_at: int) -> bool:
        """Move the end on."""
        return await self._change(_PROLONG, (at, expires_at, session_id)) > 0

    async def end(self, session_id: bytes, *, at: int) -> None:
        """End it."""
        await self._change(_END, (at, session_id))

    async def end_all(self, user_id: bytes, *, at: int) -> None:
        """End every session of a user."""
        await self._change(_END_ALL, (at, user_id))

    async def standing(self, session_id: bytes, user_id: bytes, org_id: bytes, now: int) -> Standing | None:
        """Return what the session's user is in an organisation."""
        row = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_STANDING, (session_id, user_id, org_id, now)).fetchone()
        )
        if row is None:
            return None
        org, role, deleted = row
        return Standing(user=user_id, org=Org(org), org_id=org_id, role=Role(role), org_deleted_at=deleted)

    async def list(self, user_id: bytes, now: int) -> list[Session]:
        """Return the user's sessions that are not over."""
        return [
            _session_from_row(row)
            for row in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_LIST, (user_id, now)).fetchall()
            )
        ]

    async def _change(self, statement: str, values: tuple[object, ...]) -> int:
        async def work(transaction: Transaction) -> int:
            return transaction.everywhere.execute(statement, values).rowcount

        return await self._store.transact(work)


def _session_from_row(row: Row) -> Session:
    session_id, user, epoch, created, used, expires, ended = row
    return Session(
        id=session_id,
        user=user,
        password_epoch=epoch,
        created_at=created,
        last_used_at=used,
        expires_at=expires,
        ended_at=ended,
    )
