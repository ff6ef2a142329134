"""People: a user, the memberships that tie it to organisations, and how addresses are compared.

Values only. A user is global (one address, one password); what it may do hangs on a membership.
"""

import re
import unicodedata

import msgspec

from bursar.core.errors import InvalidInput
from bursar.core.ids import Org, text_from_id
from bursar.identity.roles import Role

EMAIL_LENGTH_MAX = 254
_EMAIL = re.compile(
    r"[^\s@\x00-\x1f\x7f<>\",;:()\[\]\\]{1,64}@[^\s@.\x00-\x1f\x7f<>\",;:()\[\]\\]+(?:\.[^\s@.\x00-\x1f\x7f<>\",;:()\[\]\\]+)*"
)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One person.

    Attributes:
        email: As `normal_email` gives it; unique.
        password_hash: argon2id in its own text form; empty for one who signs in elsewhere only.
        password_epoch: Counts password changes; sessions and reset tokens of an older one are over.
        verified_at: When the address was proved; None means it cannot log in.
        disabled_at: Since when it is shut out of everything.
    """

    id: bytes
    email: str
    password_hash: str = ""
    password_epoch: int = 0
    first_name: str = ""
    last_name: str = ""
    created_at: int = 0
    verified_at: int | None = None
    disabled_at: int | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A user's place in one organisation; the organisation's id and name stand beside its number."""

    org: Org
    org_id: bytes
    org_name: str
    user: bytes
    role: Role
    created_at: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person as the organisation sees it."""

    user: User
    role: Role
    joined_at: int


def actor_of(user_id: bytes) -> str:
    """Return how the audit log calls this user."""
    return f"user:{text_from_id('usr', user_id)}"


def normal_email(text: str) -> str:
    """Return the one spelling under which an address is stored and compared.

    Lower case and NFKC, without space around it. Some hosts tell upper from lower case before the
    `@`; in practice none gives two people such addresses.

    Raises:
        InvalidInput: It cannot be an address.
    """
    normal = unicodedata.normalize("NFKC", text).strip().lower()
    if len(normal) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(normal):
        raise InvalidInput("email must be an address such as alice@example.com", field="email")
    return normal
