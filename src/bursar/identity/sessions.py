"""A session: what keeps a person's tokens alive after they were signed.

A token names its session; each use asks whether that session still stands. It ends by logout, a change of
the password, or disabling the user, and then so does every token of it.
"""

import msgspec

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY
from bursar.identity.roles import Role

ACCESS_MICROS = MICROS_PER_DAY
"""How long an access token may be used."""

GRACE_MICROS = MICROS_PER_DAY
"""How long after that it may still be exchanged for a fresh one."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in.

    Attributes:
        password_epoch: The user's when it began; another one since then ends it.
        expires_at: When not even a refresh is possible any more; each refresh moves it on.
    """

    id: bytes
    user: bytes
    password_epoch: int
    created_at: int
    last_used_at: int
    expires_at: int
    ended_at: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """That a person may act in an organisation at this moment, and as what."""

    user: bytes
    org: Org
    org_id: bytes
    role: Role
    org_deleted_at: int | None = None
