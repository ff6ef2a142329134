"""Offers of the first ownership: `identity.first_run.FirstRunStore`.

An offer is an invitation without an address: its holder brings one. While an organisation has no owner the
newest of them stands.
"""

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import NotFound
from bursar.core.ids import Org, new_id, text_from_id
from bursar.identity.first_run import Offer
from bursar.identity.roles import Role
from bursar.identity.users import User, actor_of
from bursar.storage.sql import membership_rows as rows
from bursar.storage.sql.ports import EVERY_ORG, Readers, Store, Transaction

_HAS_OWNER = "SELECT 1 FROM membership WHERE org = ? AND role = 'owner' LIMIT 1"
_SUPERSEDE = """UPDATE invitation SET revoked_at = ?
    WHERE org = ? AND email = '' AND accepted_at IS NULL AND revoked_at IS NULL"""
_INSERT = """INSERT INTO invitation (hash, org, id, email, role, inviter, created_at, expires_at)
    VALUES (?, ?, ?, '', 'owner', 'operator', ?, ?)"""
_STANDING = """SELECT i.org, o.name, i.expires_at FROM invitation AS i JOIN organisation AS o ON o.org = i.org
    WHERE i.hash = ?1 AND i.email = '' AND i.accepted_at IS NULL AND i.revoked_at IS NULL
        AND i.expires_at > ?2 AND o.deleted_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM membership AS m WHERE m.org = i.org AND m.role = 'owner')"""
_TAKE = """UPDATE invitation SET accepted_at = ?, email = ?
    WHERE hash = ? AND accepted_at IS NULL AND revoked_at IS NULL"""
_VERIFY = "UPDATE user_account SET verified_at = ? WHERE id = ? AND verified_at IS NULL"


class SqlFirstRun:
    """`identity.first_run.FirstRunStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def offer(self, org: Org, code_hash: bytes, *, at: int, expires_at: int) -> bool:
        """Store an offer, unless the organisation has an owner."""

        async def work(transaction: Transaction) -> bool:
            connection = transaction.everywhere
            if connection.execute(_HAS_OWNER, (org,)).fetchone() is not None:
                return False
            connection.execute(_SUPERSEDE, (at, org))
            connection.execute(_INSERT, (code_hash, org, new_id(), at, expires_at))
            return True

        return await self._store.transact(work)

    async def look(self, code_hash: bytes, *, at: int) -> Offer | None:
        """Return the offer while it stands."""
        row = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_STANDING, (code_hash, at)).fetchone()
        )
        return None if row is None else Offer(org_name=row[1], expires_at=row[2])

    async def claim(self, code_hash: bytes, user: User, *, at: int) -> None:
        """Make `user` the owner."""

        async def work(transaction: Transaction) -> None:
            connection = transaction.everywhere
            row = connection.execute(_STANDING, (code_hash, at)).fetchone()
            if row is None:
                raise NotFound("this link is not valid any more", field="token")
            org = Org(row[0])
            unit = transaction.unit(org)
            if not connection.execute(_TAKE, (at, user.email, code_hash)).rowcount:
                raise NotFound("this link is not valid any more", field="token")
            if rows.find_user(connection, user.id) is None:
                rows.insert_user(connection, msgspec.structs.replace(user, verified_at=at))
            else:
                connection.execute(_VERIFY, (at, user.id))
            rows.join(connection, org, user.id, Role.OWNER, at)
            entry = AuditEntry(
                at=at,
                actor=actor_of(user.id),
                action="member.first_owner",
                target=text_from_id("usr", user.id),
                details={"email": user.email, "role": Role.OWNER.value},
            )
            await unit.record(entry)

        await self._store.transact(work)
