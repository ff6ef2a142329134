"""People: `identity.ports.UserStore`. Each change is one commit with its audit entry.

A user is global, the audit log is an organisation's: what a user changes of itself is written in each of
its organisations. Changes of people and of memberships run one after the other (`everywhere`), whatever
the organisation: whether an owner would be left asks about both.
"""

from collections.abc import Mapping

from bursar.core.audit import AuditEntry
from bursar.core.errors import Conflict, NotFound
from bursar.core.ids import Org, new_id, text_from_id
from bursar.directory.organisations import Organisation
from bursar.identity.roles import Role
from bursar.identity.users import Member, Membership, User, actor_of
from bursar.storage.sql import membership_rows as rows
from bursar.storage.sql.organisations import insert_organisation
from bursar.storage.sql.ports import EVERY_ORG, Readers, Store, Transaction

_PLACES = """SELECT m.org, o.id, o.name, m.user, m.role, m.created_at
    FROM membership AS m JOIN organisation AS o ON o.org = m.org
    WHERE m.user = ? AND o.deleted_at IS NULL ORDER BY m.created_at, m.org"""
_OWNED_DELETED = """SELECT m.org, o.id, o.name, m.user, m.role, m.created_at
    FROM membership AS m JOIN organisation AS o ON o.org = m.org
    WHERE m.user = ? AND m.role = 'owner' AND o.deleted_at IS NOT NULL ORDER BY m.created_at, m.org"""
_ORGS = "SELECT org FROM membership WHERE user = ? ORDER BY org"
_OWNED = "SELECT org FROM membership WHERE user = ? AND role = 'owner' ORDER BY org"
_MEMBERS = f"""SELECT {rows.USER_COLUMNS}, m.role, m.created_at AS joined_at
    FROM membership AS m JOIN user_account AS u ON u.id = m.user
    WHERE m.org = ? ORDER BY m.created_at, m.user"""
_LEAVE = "DELETE FROM membership WHERE org = ? AND user = ?"
_VERIFY = "UPDATE user_account SET verified_at = ? WHERE id = ? AND verified_at IS NULL"
_RENAME = "UPDATE user_account SET first_name = ?, last_name = ? WHERE id = ?"
_NEW_HASH = """UPDATE user_account SET password_hash = ?, password_epoch = password_epoch + 1
    WHERE id = ? AND password_epoch = ?"""
_REPLACE_HASH = "UPDATE user_account SET password_hash = ? WHERE id = ? AND password_hash = ?"
_END_SESSIONS = "UPDATE session SET ended_at = ? WHERE user = ? AND ended_at IS NULL"
_DROP_CODES = "DELETE FROM one_time_code WHERE user = ?"
_DISABLE = "UPDATE user_account SET disabled_at = ? WHERE id = ? AND disabled_at IS NULL"
_ENABLE = "UPDATE user_account SET disabled_at = NULL WHERE id = ? AND disabled_at IS NOT NULL"
_FIND_EXTERNAL = f"""SELECT {rows.USER_COLUMNS} FROM external_identity AS e
    JOIN user_account AS u ON u.id = e.user WHERE e.issuer = ? AND e.subject = ?"""
_EXTERNAL_OWNER = "SELECT user FROM external_identity WHERE issuer = ? AND subject = ?"
_LINK_EXTERNAL = "INSERT INTO external_identity (issuer, subject, user, created_at) VALUES (?, ?, ?, ?)"


class SqlUsers:
    """`identity.ports.UserStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def find(self, user_id: bytes) -> User | None:
        """Return the user with that id."""
        return await self._readers.run_short(EVERY_ORG, lambda one: rows.find_user(one, user_id))

    async def find_by_email(self, email: str) -> User | None:
        """Return the user with that normal address."""
        return await self._readers.run_short(EVERY_ORG, lambda one: rows.find_user_by_email(one, email))

    async def memberships(self, user_id: bytes) -> list[Membership]:
        """Return the user's places, oldest first."""
        return [
            rows.membership_from_row(row)
            for row in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_PLACES, (user_id,)).fetchall()
            )
        ]

    async def owned_deleted(self, user_id: bytes) -> list[Membership]:
        """Return the deleted organisations that the user owns."""
        return [
            rows.membership_from_row(row)
            for row in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_OWNED_DELETED, (user_id,)).fetchall()
            )
        ]

    async def members(self, org: Org) -> list[Member]:
        """Return the organisation's people, oldest first."""
        return [
            Member(user=rows.user_from_row(row), role=Role(row["role"]), joined_at=row["joined_at"])
            for row in await self._readers.run_short(
                org, lambda one: one.execute(_MEMBERS, (org,)).fetchall()
            )
        ]

    async def register(self, user: User, org_name: str, zone: str) -> Membership:
        """Store a new user as the owner of a new organisation."""
        actor = actor_of(user.id)

        async def work(transaction: Transaction) -> Membership:
            rows.insert_user(transaction.everywhere, user)
            made = Organisation(org=Org(0), id=new_id(), name=org_name, zone=zone, created_at=user.created_at)
            organisation = await insert_organisation(transaction, made, actor=actor, may_number=True)
            return await _joined(
                transaction, organisation.org, user, Role.OWNER, at=user.created_at, actor=actor
            )

        return await self._store.transact(work)

    async def add(self, user: User, org: Org, role: Role, *, actor: str) -> Membership:
        """Store a new user as a member."""

        async def work(transaction: Transaction) -> Membership:
            rows.insert_user(transaction.everywhere, user)
            return await _joined(transaction, org, user, role, at=user.created_at, actor=actor)

        return await self._store.transact(work)

    async def join(self, org: Org, user_id: bytes, role: Role, *, at: int, actor: str) -> Member:
        """Make a known user a member in that role, or change the role."""

        async def work(transaction: Transaction) -> bool:
            user = rows.get_user(transaction.everywhere, user_id)
            try:
                rows.get_membership(transaction.everywhere, org, user_id)
            except NotFound:
                await _joined(transaction, org, user, role, at=at, actor=actor)
                return True
            return False

        await self._store.transact(work)
        return await self.set_role(org, user_id, role, at=at, actor=actor)

    async def set_role(self, org: Org, user_id: bytes, role: Role, *, at: int, actor: str) -> Member:
        """Change a member's role."""

        async def work(transaction: Transaction) -> Member:
            connection = transaction.everywhere
            before = rows.get_membership(connection, org, user_id)
            if before.role is Role.OWNER and role is not Role.OWNER:
                rows.require_other_owner(connection, org, user_id)
            after = rows.join(connection, org, user_id, role, at)
            if after.role is not before.role:
                details = {"role": role.value, "before": before.role.value}
                await _record(transaction, org, user_id, "member.set_role", details, at=at, actor=actor)
            return Member(
                user=rows.get_user(connection, user_id), role=after.role, joined_at=after.created_at
            )

        return await self._store.transact(work)

    async def remove(self, org: Org, user_id: bytes, *, at: int, actor: str) -> None:
        """Take a user out of an organisation."""

        async def work(transaction: Transaction) -> None:
            before = rows.get_membership(transaction.everywhere, org, user_id)
            if before.role is Role.OWNER:
                rows.require_other_owner(transaction.everywhere, org, user_id)
            transaction.everywhere.execute(_LEAVE, (org, user_id))
            details = {"role": before.role.value}
            await _record(transaction, org, user_id, "member.remove", details, at=at, actor=actor)

        await self._store.transact(work)

    async def verify(self, user_id: bytes, *, at: int) -> User:
        """Mark the address as proved."""

        async def work(transaction: Transaction) -> User:
            if transaction.everywhere.execute(_VERIFY, (at, user_id)).rowcount:
                await _record_everywhere(transaction, user_id, "user.verify", at=at, actor=actor_of(user_id))
            return rows.get_user(transaction.everywhere, user_id)

        return await self._store.transact(work)

    async def rename(self, user_id: bytes, first_name: str, last_name: str, *, at: int) -> User:
        """Change the names."""

        async def work(transaction: Transaction) -> User:
            transaction.everywhere.execute(_RENAME, (first_name, last_name, user_id))
            await _record_everywhere(transaction, user_id, "user.rename", at=at, actor=actor_of(user_id))
            return rows.get_user(transaction.everywhere, user_id)

        return await self._store.transact(work)

    async def set_password(
        self, user_id: bytes, password_hash: str, *, epoch: int, at: int, actor: str
    ) -> User:
        """Store a new password's hash; sessions and codes end with the old one."""

        async def work(transaction: Transaction) -> User:
            connection = transaction.everywhere
            rows.get_user(connection, user_id)
            if not connection.execute(_NEW_HASH, (password_hash, user_id, epoch)).rowcount:
                raise Conflict("the password was changed at this moment; look, and try again")
            connection.execute(_END_SESSIONS, (at, user_id))
            connection.execute(_DROP_CODES, (user_id,))
            await _record_everywhere(transaction, user_id, "user.set_password", at=at, actor=actor)
            return rows.get_user(connection, user_id)

        return await self._store.transact(work)

    async def replace_hash(self, user_id: bytes, old: str, new: str) -> None:
        """Store the same password's hash by newer parameters."""

        async def work(transaction: Transaction) -> None:
            transaction.everywhere.execute(_REPLACE_HASH, (new, user_id, old))

        await self._store.transact(work)

    async def set_disabled(self, user_id: bytes, *, is_disabled: bool, at: int, actor: str) -> User:
        """Shut a user out, or let it in again."""

        async def work(transaction: Transaction) -> User:
            connection = transaction.everywhere
            rows.get_user(connection, user_id)
            if is_disabled:
                for (org,) in connection.execute(_OWNED, (user_id,)).fetchall():
                    rows.require_other_owner(connection, Org(org), user_id)
                changed = connection.execute(_DISABLE, (at, user_id)).rowcount
                connection.execute(_END_SESSIONS, (at, user_id))
            else:
                changed = connection.execute(_ENABLE, (user_id,)).rowcount
            if changed:
                action = "user.disable" if is_disabled else "user.enable"
                await _record_everywhere(transaction, user_id, action, at=at, actor=actor)
            return rows.get_user(connection, user_id)

        return await self._store.transact(work)

    async def find_external(self, issuer: str, subject: str) -> User | None:
        """Return the user whom an outside issuer knows by that subject."""
        row = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_FIND_EXTERNAL, (issuer, subject)).fetchone()
        )
        return None if row is None else rows.user_from_row(row)

    async def link_external(self, user_id: bytes, issuer: str, subject: str, *, at: int) -> None:
        """Remember that an outside issuer's subject is this user."""

        async def work(transaction: Transaction) -> None:
            connection = transaction.everywhere
            known = connection.execute(_EXTERNAL_OWNER, (issuer, subject)).fetchone()
            if known is not None:
                if bytes(known[0]) != user_id:
                    raise Conflict("that sign-in already belongs to another user")
                return
            connection.execute(_LINK_EXTERNAL, (issuer, subject, user_id, at))
            await _record_everywhere(
                transaction, user_id, "user.link", {"issuer": issuer}, at=at, actor=actor_of(user_id)
            )

        await self._store.transact(work)


async def _joined(
    transaction: Transaction, org: Org, user: User, role: Role, *, at: int, actor: str
) -> Membership:
    made = rows.join(transaction.everywhere, org, user.id, role, at)
    details = {"email": user.email, "role": role.value}
    await _record(transaction, org, user.id, "member.add", details, at=at, actor=actor)
    return made


async def _record(
    transaction: Transaction,
    org: Org,
    user_id: bytes,
    action: str,
    details: Mapping[str, object] | None,
    *,
    at: int,
    actor: str,
) -> None:
    target = text_from_id("usr", user_id)
    entry = AuditEntry(at=at, actor=actor, action=action, target=target, details=details)
    await transaction.unit(org).record(entry)


async def _record_everywhere(
    transaction: Transaction,
    user_id: bytes,
    action: str,
    details: Mapping[str, object] | None = None,
    *,
    at: int,
    actor: str,
) -> None:
    """Write the entry in each organisation of the user."""
    for (org,) in transaction.everywhere.execute(_ORGS, (user_id,)).fetchall():
        await _record(transaction, Org(org), user_id, action, details, at=at, actor=actor)
