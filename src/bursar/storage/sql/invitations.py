"""Invitations: `identity.ports.InvitationStore`."""

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import NotFound
from bursar.core.ids import Org, text_from_id
from bursar.identity.invitations import Invitation
from bursar.identity.roles import Role
from bursar.identity.users import Membership, User, actor_of
from bursar.storage.sql import membership_rows as rows
from bursar.storage.sql.ports import EVERY_ORG, Connection, Readers, Row, Store, Transaction

_COLUMNS = "org, id, email, role, inviter, created_at, expires_at, accepted_at, revoked_at"
_INSERT = f"INSERT INTO invitation (hash, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LIST = f"SELECT {_COLUMNS} FROM invitation WHERE org = ? ORDER BY id"
_GET = f"SELECT {_COLUMNS} FROM invitation WHERE org = ? AND id = ?"
_FIND = f"SELECT {_COLUMNS} FROM invitation WHERE hash = ?"
_SUPERSEDE = """UPDATE invitation SET revoked_at = ?
    WHERE org = ? AND email = ? AND accepted_at IS NULL AND revoked_at IS NULL"""
_REVOKE = """UPDATE invitation SET revoked_at = ?
    WHERE org = ? AND id = ? AND accepted_at IS NULL AND revoked_at IS NULL"""
_ACCEPT = """UPDATE invitation SET accepted_at = ?1
    WHERE hash = ?2 AND email = ?3 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > ?1
        AND EXISTS (SELECT 1 FROM organisation AS o WHERE o.org = invitation.org AND o.deleted_at IS NULL)"""
_OPEN_FOR = """SELECT i.hash FROM invitation AS i JOIN organisation AS o ON o.org = i.org
    WHERE i.email = ?1 AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > ?2
        AND o.deleted_at IS NULL ORDER BY i.created_at, i.id"""
_VERIFY = "UPDATE user_account SET verified_at = ? WHERE id = ? AND verified_at IS NULL"


class SqlInvitations:
    """`identity.ports.InvitationStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def create(self, invitation: Invitation, code_hash: bytes, *, actor: str) -> None:
        """Store a new invitation in place of an open one for the same address."""
        made = invitation

        async def work(transaction: Transaction) -> None:
            unit = transaction.unit(made.org)
            unit.connection.execute(_SUPERSEDE, (made.created_at, made.org, made.email))
            unit.connection.execute(
                _INSERT,
                (code_hash, made.org, made.id, made.email, made.role.value, made.inviter, made.created_at,
                 made.expires_at, made.accepted_at, made.revoked_at),
            )  # fmt: skip
            await unit.record(_entry(made, "invitation.create", at=made.created_at, actor=actor))

        await self._store.transact(work)

    async def find(self, code_hash: bytes) -> Invitation | None:
        """Return the invitation of that code, over or not."""
        row = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_FIND, (code_hash,)).fetchone()
        )
        return None if row is None else _invitation_from_row(row)

    async def open_for(self, email: str, *, at: int) -> list[bytes]:
        """Return the hashes of the open invitations of an address."""
        return [
            bytes(row[0])
            for row in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_OPEN_FOR, (email, at)).fetchall()
            )
        ]

    async def accept(self, code_hash: bytes, user: User, *, at: int) -> Membership:
        """Make `user` a member; the link proves the address."""

        async def work(transaction: Transaction) -> Membership:
            connection = transaction.everywhere
            row = connection.execute(_FIND, (code_hash,)).fetchone()
            if row is None:
                raise _closed()
            # Its organisation's lock before the row's own, as whoever revokes it takes them.
            unit = transaction.unit(Org(row[0]))
            if not connection.execute(_ACCEPT, (at, code_hash, user.email)).rowcount:
                raise _closed()
            if rows.find_user(connection, user.id) is None:
                rows.insert_user(connection, msgspec.structs.replace(user, verified_at=at))
            else:
                connection.execute(_VERIFY, (at, user.id))
            invitation = _invitation_from_row(connection.execute(_FIND, (code_hash,)).fetchone())
            await unit.record(_entry(invitation, "invitation.accept", at=at, actor=actor_of(user.id)))
            return _joined(connection, invitation, user.id, at)

        return await self._store.transact(work)

    async def revoke(self, org: Org, invitation_id: bytes, *, at: int, actor: str) -> None:
        """Close an invitation."""

        async def work(transaction: Transaction) -> None:
            unit = transaction.unit(org)
            row = unit.connection.execute(_GET, (org, invitation_id)).fetchone()
            if row is None:
                raise NotFound("no such invitation in this organisation", field="invitation_id")
            if unit.connection.execute(_REVOKE, (at, org, invitation_id)).rowcount:
                found = _invitation_from_row(row)
                await unit.record(_entry(found, "invitation.revoke", at=at, actor=actor))

        await self._store.transact(work)

    async def list(self, org: Org) -> list[Invitation]:
        """Return all of an organisation, oldest first."""
        return [
            _invitation_from_row(row)
            for row in await self._readers.run_short(org, lambda one: one.execute(_LIST, (org,)).fetchall())
        ]


def _closed() -> NotFound:
    return NotFound("this invitation is not open any more; ask for a new one", field="code")


def _joined(connection: Connection, invitation: Invitation, user_id: bytes, at: int) -> Membership:
    """Return the place of the user; whoever is a member already keeps the role it has."""
    try:
        return rows.get_membership(connection, invitation.org, user_id)
    except NotFound:
        return rows.join(connection, invitation.org, user_id, invitation.role, at)


def _entry(invitation: Invitation, action: str, *, at: int, actor: str) -> AuditEntry:
    target = text_from_id("inv", invitation.id)
    details = {"email": invitation.email, "role": invitation.role.value}
    return AuditEntry(at=at, actor=actor, action=action, target=target, details=details)


def _invitation_from_row(row: Row) -> Invitation:
    org, invitation_id, email, role, inviter, created, expires, accepted, revoked = row
    return Invitation(
        org=Org(org),
        id=invitation_id,
        email=email,
        role=Role(role),
        inviter=inviter,
        created_at=created,
        expires_at=expires,
        accepted_at=accepted,
        revoked_at=revoked,
    )
