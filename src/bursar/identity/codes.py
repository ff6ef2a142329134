"""One-time codes: six digits that prove an address.

Only a keyed hash is stored: a million possible codes are soon tried against a plain one. The key lies
outside the database. Storage counts the tries in the same statement that reads the code
(`ports.CodeStore.attempt`), so a thousand guesses at once are still five.
"""

import hashlib
import hmac
import secrets
from enum import StrEnum

from bursar.core.time import MICROS_PER_MINUTE

DIGITS = 6
LIFE_MICROS = 10 * MICROS_PER_MINUTE
TRIES_MAX = 5


class Purpose(StrEnum):
    """What a code is good for; one made for another purpose is no code."""

    VERIFY = "verify"
    RESET = "reset"


class Outcome(StrEnum):
    """What became of a guess. Callers see the difference between MATCHED and the rest only."""

    MATCHED = "matched"
    WRONG = "wrong"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    ABSENT = "absent"


def generate() -> str:
    """Return a fresh code, each of the million equally likely."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def hash_of(secret: bytes, user_id: bytes, purpose: Purpose, code: str) -> bytes:
    """Return what is stored of a code: it fits one user and one purpose only."""
    message = b"\0".join((user_id, purpose.encode(), code.strip().encode("utf-8", "replace")))
    return hmac.digest(secret, message, hashlib.sha256)
