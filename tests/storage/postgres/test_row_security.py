"""The second fence: a transaction sees and writes rows of the organisation that it named, and no others.

All of it over the product's own connections, as the role that owns the tables.
"""

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from bursar.core.ids import Org
from bursar.storage.migrations.baseline import GLOBAL_TABLES
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.sql.ports import EVERY_ORG, Connection, Transaction
from support.engines import PostgresDatabase, canonical_names

MINE, OTHERS = Org(3), Org(5)
_PUT = "INSERT INTO batch (org, seq, committed_at, hours, events, entries) VALUES (?, ?, 1, '[]', 1, 1)"
_SEEN = "SELECT org FROM batch ORDER BY org"
_TABLES = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'bursar' AND c.relkind IN ('r', 'p')"""


@pytest.fixture
async def engine(postgres: PostgresDatabase) -> AsyncIterator[PostgresEngine]:
    made = postgres.engine(clock=lambda: time.time_ns() // 1_000, canonicalise=canonical_names)
    assert isinstance(made, PostgresEngine)

    async def fill(transaction: Transaction) -> None:
        for org in (MINE, OTHERS):
            transaction.unit(org).connection.execute(_PUT, (org, 1))

    await made.store.transact(fill)
    yield made
    await made.close()


def seen(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(_SEEN)]


async def test_a_read_sees_its_organisation_alone(engine: PostgresEngine) -> None:
    assert await engine.readers.run(MINE, seen) == [MINE]
    assert await engine.readers.run_short(OTHERS, seen) == [OTHERS]
    assert await engine.readers.run(EVERY_ORG, seen) == [MINE, OTHERS]
    assert await engine.readers.run(Org(4), seen) == []


async def test_a_transaction_of_several_organisations_sees_the_one_whose_turn_it_is(
    engine: PostgresEngine,
) -> None:
    async def look(transaction: Transaction) -> list[list[int]]:
        mine, others = transaction.unit(MINE).connection, transaction.unit(OTHERS).connection
        return [seen(mine), seen(others), seen(mine)]

    assert await engine.store.transact(look) == [[MINE], [OTHERS], [MINE]]


async def test_nobody_writes_a_row_of_another_organisation(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    async def insert(transaction: Transaction) -> None:
        transaction.unit(MINE).connection.execute(_PUT, (OTHERS, 2))

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await engine.store.transact(insert)

    async def give_away(transaction: Transaction) -> None:
        transaction.unit(MINE).connection.execute("UPDATE batch SET org = ?", (OTHERS,))

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await engine.store.transact(give_away)

    async def change_and_delete(transaction: Transaction) -> list[int]:
        own = transaction.unit(MINE).connection
        where = "WHERE org = ?"
        changed = own.execute(f"UPDATE batch SET events = 9 {where}", (OTHERS,)).rowcount
        return [changed, own.execute(f"DELETE FROM batch {where}", (OTHERS,)).rowcount]

    assert await engine.store.transact(change_and_delete) == [0, 0]
    assert postgres.rows("SELECT org, seq, events FROM batch ORDER BY org") == [(MINE, 1, 1), (OTHERS, 1, 1)]


async def test_a_connection_that_names_no_organisation_sees_nothing(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    own = await asyncpg.connect(postgres.address, server_settings={"search_path": "bursar"})
    assert await own.fetch(_SEEN) == []
    async with own.transaction():
        await own.execute(f"SET LOCAL bursar.org = '{MINE}'")
        assert [row[0] for row in await own.fetch(_SEEN)] == [MINE]
    assert await own.fetch(_SEEN) == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await own.execute("INSERT INTO batch VALUES (3, 2, 1, '[]', 1, 1)")
    await own.close()
    assert await engine.readers.run(MINE, seen) == [MINE]


async def test_every_table_of_organisations_hides_every_row_of_another(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    """Asked of the planner, since few tables have rows here: the filter stands before every scan."""
    own = await asyncpg.connect(postgres.address, server_settings={"search_path": "bursar"})
    tables = {row[0] for row in await own.fetch(_TABLES)} - GLOBAL_TABLES - {"schema_step"}
    for table in sorted(tables):
        plan = "\n".join(row[0] for row in await own.fetch(f"EXPLAIN SELECT * FROM {table}"))
        assert plan.count(" Scan ") == plan.count("Filter: ((org = $"), f"{table}: {plan}"
    await own.close()
    assert len(tables) > 60
    assert await engine.answers()
