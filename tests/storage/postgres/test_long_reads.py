"""A read that takes longer than its connections allow is ended, and says so; the next one is answered."""

import asyncio

import pytest

from bursar.core.errors import Unavailable
from bursar.core.ids import Org
from bursar.storage.postgres.engine import READ_ONLY
from bursar.storage.postgres.pool import Limits, Pool
from bursar.storage.postgres.readers import PostgresReaders
from bursar.storage.sql.ports import Connection
from support.engines import Database

ENGINES = ("postgres",)
"""SQLite's reads are ended by nobody."""

ORG = Org(1)


def test_a_read_that_takes_too_long_is_told_to_ask_for_less(database: Database) -> None:
    async def asked() -> int:
        address = database.settings["database_url"]
        pool = Pool(address, size=1, is_pooled=False, begin=READ_ONLY, limits=Limits(statement_ms=200))
        readers = PostgresReaders(pool, pool)
        with pytest.raises(Unavailable, match="ask for less"):
            await readers.run(ORG, lambda one: _slept(one, 30))
        answered = await readers.run(ORG, lambda one: _slept(one, 0))
        await pool.close()
        return answered

    assert asyncio.run(asked()) == 1


def _slept(connection: Connection, seconds: int) -> int:
    return len(connection.execute("SELECT pg_sleep(?)", (seconds,)).fetchall())
