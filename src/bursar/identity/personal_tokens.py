"""Personal tokens: `bp_` and 64 hex digits, acting as their user in each of the user's organisations.

56 digits are random, 8 are CRC-32 of what stands before them, as in an API key; only SHA-256 of the whole
text is stored.
"""

import re
import secrets
import zlib

import msgspec

PREFIX = "bp_"
_RANDOM_BYTES = 28
_SHOWN = 8
_FORM = re.compile(r"bp_[0-9a-f]{64}")


class PersonalToken(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token, never its text. Times are microseconds UTC or None."""

    id: bytes
    user: bytes
    name: str
    prefix: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


def generate() -> str:
    """Return a fresh token's text."""
    body = f"{PREFIX}{secrets.token_hex(_RANDOM_BYTES)}"
    return body + _checksum(body)


def plausible(text: str) -> bool:
    """Whether `text` can be a personal token at all; false costs no look-up."""
    return bool(_FORM.fullmatch(text)) and _checksum(text[:-8]) == text[-8:]


def shown_prefix(text: str) -> str:
    """Return the part that lists show."""
    return text[: len(PREFIX) + _SHOWN]


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
