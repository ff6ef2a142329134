"""Bring a PostgreSQL database to the newest schema."""

import asyncio
import time

import asyncpg

from bursar.storage.migrations import HEAD, baseline
from bursar.storage.postgres import partitions

_LOCK = (0x627273, -1)
_HISTORY = """CREATE TABLE schema_step (
    step TEXT COLLATE "C" PRIMARY KEY, applied_at BIGINT NOT NULL)"""


async def migrate(address: str) -> bool:
    """Run the missing steps; return whether there were any."""
    own = await asyncpg.connect(address, server_settings={"application_name": "bursar migrate"})
    try:
        async with own.transaction():
            await own.execute(f"SELECT pg_advisory_xact_lock{_LOCK}")
            if await own.fetchval("SELECT to_regclass('bursar.schema_step') IS NOT NULL"):
                return False
            await own.execute("CREATE SCHEMA IF NOT EXISTS bursar; SET LOCAL search_path = bursar")
            await own.execute(_HISTORY)
            for statement in (*baseline.statements(), *partitions.outer_statements()):
                await own.execute(statement)
            await own.execute("INSERT INTO schema_step VALUES ($1, $2)", HEAD, time.time_ns() // 1000)
            await partitions.make(own, partitions.months_ahead(time.time_ns() // 1000))
            return True
    finally:
        await own.close()


if __name__ == "__main__":
    import sys

    asyncio.run(migrate(sys.argv[1]))
