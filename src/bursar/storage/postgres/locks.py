"""The advisory locks of a database beside those of organisations (`store`), each a pair of numbers.

All are held by a transaction, never by a session: behind a pooler there are no sessions.
"""

from zlib import crc32

MIGRATION = "(6451828, 0)"
"""Whoever changes the schema."""

MONTHS = "(6451828, 1)"
"""Whoever makes or takes away months of events."""

_LEADING = 0x627275
_INT4 = 2**31


def leading(job: str) -> str:
    """Return the lock of whoever runs `job`."""
    number = crc32(job.encode())
    return f"({_LEADING}, {number - 2 * _INT4 if number >= _INT4 else number})"
