"""Memberships: the statements that users and invitations share.

Takes an open transaction's connection; commits nothing, writes no audit entry.
"""

import msgspec

from bursar.core.errors import Conflict, NotFound
from bursar.core.ids import Org
from bursar.identity.roles import Role
from bursar.identity.users import Membership, User
from bursar.storage.sql.ports import Connection, Row

USER_COLUMNS = """u.id, u.email, u.password_hash, u.password_epoch, u.first_name, u.last_name,
    u.created_at, u.verified_at, u.disabled_at"""
_GET_USER = f"SELECT {USER_COLUMNS} FROM user_account AS u WHERE u.id = ?"
_GET_BY_EMAIL = f"SELECT {USER_COLUMNS} FROM user_account AS u WHERE u.email = ?"
_INSERT_USER = """INSERT INTO user_account (id, email, password_hash, password_epoch, first_name, last_name,
    created_at, verified_at, disabled_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_JOIN = """INSERT INTO membership (org, user, role, created_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (org, user) DO UPDATE SET role = excluded.role"""
_GET_MEMBERSHIP = """SELECT m.org, o.id, o.name, m.user, m.role, m.created_at
    FROM membership AS m JOIN organisation AS o ON o.org = m.org WHERE m.org = ? AND m.user = ?"""
_OTHER_OWNERS = """SELECT count(*) FROM membership AS m JOIN user_account AS u ON u.id = m.user
    WHERE m.org = ? AND m.user <> ? AND m.role = 'owner' AND u.disabled_at IS NULL"""


def user_from_row(row: Row) -> User:
    """Return the user of a row of `USER_COLUMNS`, which stand first in it."""
    user_id, email, password, epoch, first, last, created, verified, disabled = tuple(row)[:9]
    return User(
        id=user_id,
        email=email,
        password_hash=password,
        password_epoch=epoch,
        first_name=first,
        last_name=last,
        created_at=created,
        verified_at=verified,
        disabled_at=disabled,
    )


def membership_from_row(row: Row) -> Membership:
    """Return the membership of (org, its id, its name, user, role, since when)."""
    org, org_id, name, user, role, at = row
    return Membership(org=Org(org), org_id=org_id, org_name=name, user=user, role=Role(role), created_at=at)


def find_user(connection: Connection, user_id: bytes) -> User | None:
    """Return the user with that id."""
    row = connection.execute(_GET_USER, (user_id,)).fetchone()
    return None if row is None else user_from_row(row)


def find_user_by_email(connection: Connection, email: str) -> User | None:
    """Return the user with that address."""
    row = connection.execute(_GET_BY_EMAIL, (email,)).fetchone()
    return None if row is None else user_from_row(row)


def get_user(connection: Connection, user_id: bytes) -> User:
    """Return the user with that id.

    Raises:
        NotFound: There is none.
    """
    user = find_user(connection, user_id)
    if user is None:
        raise NotFound("no such user", field="user_id")
    return user


def insert_user(connection: Connection, user: User) -> None:
    """Store a new user.

    Raises:
        Conflict: The address is taken.
    """
    if find_user_by_email(connection, user.email) is not None:
        raise Conflict("a user with this email already exists; log in, or reset the password", field="email")
    connection.execute(_INSERT_USER, msgspec.structs.astuple(user))


def join(connection: Connection, org: Org, user_id: bytes, role: Role, at: int) -> Membership:
    """Make the user a member in that role, or change the role, and return the membership."""
    connection.execute(_JOIN, (org, user_id, role.value, at))
    return membership_from_row(connection.execute(_GET_MEMBERSHIP, (org, user_id)).fetchone())


def get_membership(connection: Connection, org: Org, user_id: bytes) -> Membership:
    """Return a user's place in an organisation.

    Raises:
        NotFound: Not a member.
    """
    row = connection.execute(_GET_MEMBERSHIP, (org, user_id)).fetchone()
    if row is None:
        raise NotFound("no such user in this organisation", field="user_id")
    return membership_from_row(row)


def require_other_owner(connection: Connection, org: Org, user_id: bytes) -> None:
    """Raise unless somebody else could still act as the organisation's owner.

    Raises:
        Conflict: This user is the last one.
    """
    if connection.execute(_OTHER_OWNERS, (org, user_id)).fetchone()[0] == 0:
        raise Conflict("an organisation needs an owner; make somebody else one first", field="role")
