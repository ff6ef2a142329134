"""The advisory locks of a database beside those of organisations (`store`), each a pair of numbers.

All are held by a transaction, never by a session: behind a pooler there are no sessions.
"""

from zlib import crc32

import asyncpg

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


async def taken(own: asyncpg.Connection, lock: str) -> bool:
    """Take a lock until the transaction ends, unless somebody has it; tell whether it was taken."""
    is_ours = await own.fetchval(f"SELECT pg_try_advisory_xact_lock{lock}")
    # The driver's statement keeps its snapshot until the next one comes, and what changes the schema would
    # wait for it as long as the lock is held; a plain one keeps none.
    await own.execute("SELECT")
    return bool(is_ours)
