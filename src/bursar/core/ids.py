"""Ids: UUIDv7 of 16 bytes inside, a typed prefix and 32 hex digits outside.

`agt_0192f0c4…` on native routes, plain UUIDs in the dialects; `id_from_text` takes both.
Event keys are 16 bytes as well: a caller's canonical UUID is stored as itself, because
hashing would throw away UUIDv7's order, which halves the cost of ingest; any other text
is hashed to 16 bytes.
"""

import hashlib
import re
from typing import NewType
from uuid import UUID

import uuid_utils

from bursar.core.errors import InvalidInput

Org = NewType("Org", int)
"""An organisation's small number: the first column of every key. Never shown outside."""

_UUID_LENGTH = 36
_ID = re.compile(r"(?:[a-z]{2,8}_)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def new_id() -> bytes:
    """Return a fresh UUIDv7: time-ordered, 16 bytes."""
    return uuid_utils.uuid7().bytes


def text_from_id(prefix: str, value: bytes) -> str:
    """Return the native spelling, for example `agt_` and 32 hex digits."""
    return f"{prefix}_{value.hex()}"


def uuid_text_from_id(value: bytes) -> str:
    """Return the dialects' spelling, a canonical UUID."""
    return str(UUID(bytes=value))


def id_from_text(text: str, *, field: str = "id") -> bytes:
    """Return the 16 bytes of a prefixed id, a UUID, or 32 hex digits.

    Raises:
        InvalidInput: `text` is none of the three.
    """
    match = _ID.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidInput(f"{field} must be an id such as agt_0192… or a UUID", field=field)
    return bytes.fromhex(match[1].replace("-", ""))


def key_from_text(text: str) -> bytes:
    """Return the 16 bytes under which an idempotency key or a run id is stored.

    A canonical UUID (36 characters, lower case) is its own bytes; anything else is the
    first 16 bytes of BLAKE2b over its UTF-8 text. Equal texts give equal keys, for ever.
    """
    if len(text) == _UUID_LENGTH:
        try:
            value = uuid_utils.UUID(text)
        except ValueError:
            pass
        else:
            if str(value) == text:
                return value.bytes
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
