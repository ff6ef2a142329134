"""Invitations: an address that may join an organisation in a role, by a link that is good once.

The code in the link is `inv_` and 43 characters of URL-safe base64 (256 random bits); only its SHA-256
is stored.
"""

import hashlib
import secrets

import msgspec

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY
from bursar.identity.roles import Role

LIFE_MICROS = 7 * MICROS_PER_DAY


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """One invitation, open until it is accepted, revoked or over. Times are microseconds UTC or None."""

    org: Org
    id: bytes
    email: str
    role: Role
    inviter: str
    created_at: int
    expires_at: int
    accepted_at: int | None = None
    revoked_at: int | None = None


def generate() -> str:
    """Return a fresh code for the link."""
    return f"inv_{secrets.token_urlsafe(32)}"


def hash_of(code: str) -> bytes:
    """Return what is stored in place of the code, 32 bytes."""
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
