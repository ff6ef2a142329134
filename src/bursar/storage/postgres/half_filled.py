"""The mark of a database that a move or a restore has begun to fill and not finished.

Not here: who sets it and takes it away (`copies`).
"""

import asyncpg

from bursar.core.errors import Conflict

HALF_FILLED = "SELECT to_regclass('bursar.half_filled') IS NOT NULL"


async def refuse_half_filled(own: asyncpg.Connection) -> None:
    """Refuse a database that a move or a restore has not finished.

    Raises:
        Conflict: It is one.
    """
    if await own.fetchval(HALF_FILLED):
        raise Conflict(
            "the database is half filled: a move or a restore into it did not come to its end; "
            "run the same command again, it goes on where it was"
        )
