"""Cursors of lists in order of time: an instant and 16 bytes, as one text that callers send back."""

import base64
import binascii

from bursar.core.errors import InvalidInput

_AT_BYTES = 8
_KEY_BYTES = 16


def cursor_from(at: int, key: bytes) -> str:
    """Return the cursor of what stands at an instant (microseconds) under a key of 16 bytes."""
    return base64.urlsafe_b64encode(at.to_bytes(_AT_BYTES, "big", signed=True) + key).decode()


def place_from(cursor: str) -> tuple[int, bytes]:
    """Return the instant and the key of a cursor.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    try:
        place = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        place = b""
    if len(place) != _AT_BYTES + _KEY_BYTES:
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return int.from_bytes(place[:_AT_BYTES], "big", signed=True), place[_AT_BYTES:]
