"""Transactions of several processes: what is locked, undone, tried again, and given up.

Two engines on one database stand for two processes; the administrator ends connections as a
crashed back-end, a fail-over or an operator does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from bursar.core.errors import AmountOverflow, Unavailable
from bursar.core.ids import Org
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.postgres.store import PostgresTransaction
from support.engines import PostgresDatabase, canonical_names

ONE, TWO = Org(1), Org(2)
CONNECTIONS = 4
_ADD = """INSERT INTO decision_clock (org, last_at) VALUES (?1, ?2)
    ON CONFLICT (org) DO UPDATE SET last_at = decision_clock.last_at + excluded.last_at"""
_SEEN = "SELECT last_at FROM decision_clock WHERE org = ?"

Work = Callable[[PostgresTransaction], Awaitable[Any]]


def clock() -> int:
    return time.time_ns() // 1_000


@pytest.fixture
async def engines(postgres: PostgresDatabase) -> AsyncIterator[list[PostgresEngine]]:
    made = [
        PostgresEngine(postgres.address, clock=clock, canonicalise=canonical_names, connections=CONNECTIONS)
        for _ in range(2)
    ]
    for one in made:
        one.open()
    yield made
    for one in made:
        await one.close()


@pytest.fixture
def engine(engines: list[PostgresEngine]) -> PostgresEngine:
    return engines[0]


def add(amount: int = 1, org: Org = ONE, *, pause_s: float = 0.0, reads_first: bool = False) -> Work:
    async def work(transaction: PostgresTransaction) -> int:
        connection = transaction.unit(org).connection
        row = connection.execute(_SEEN, (org,)).fetchone()
        await asyncio.sleep(pause_s)
        if reads_first:  # what was read is written back: right only if nobody wrote meanwhile
            seen = 0 if row is None else int(row[0])
            connection.execute(_ADD, (org, 0))
            connection.execute("UPDATE decision_clock SET last_at = ? WHERE org = ?", (seen + amount, org))
        else:
            connection.execute(_ADD, (org, amount))
        return int(connection.execute(_SEEN, (org,)).fetchone()[0])

    return work


def total(database: PostgresDatabase, org: Org = ONE) -> int:
    rows = database.rows(_SEEN, org)
    return int(rows[0][0]) if rows else 0


def backends(database: PostgresDatabase, state: str = "") -> list[int]:
    """Return the process ids of the product's connections."""
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = ? AND usename = 'bursar'"
    where = f" AND state = '{state}'" if state else ""
    return [row[0] for row in database.rows(sql + where, database.name)]


def end(database: PostgresDatabase, state: str = "") -> int:
    """End the product's connections, as an operator or a crash does."""
    pids = backends(database, state)
    for pid in pids:
        database.rows("SELECT pg_terminate_backend(?::int)", pid)
    return len(pids)


async def test_what_was_read_still_stands_when_it_is_written_back(
    engines: list[PostgresEngine], postgres: PostgresDatabase
) -> None:
    works = [one.store.transact(add(reads_first=True, pause_s=0.001)) for one in engines for _ in range(25)]
    assert sorted(await asyncio.gather(*works)) == list(range(1, 51))
    assert total(postgres) == 50


async def test_organisations_do_not_wait_for_each_other(engine: PostgresEngine) -> None:
    begun = asyncio.Event()

    async def slow(transaction: PostgresTransaction) -> None:
        transaction.unit(ONE)
        begun.set()
        await asyncio.sleep(1)

    slow_one = asyncio.create_task(engine.store.transact(slow))
    await begun.wait()
    await engine.store.transact(add(org=TWO))
    assert not slow_one.done()
    await slow_one


async def test_one_busy_organisation_leaves_connections_to_the_others(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    busy = [asyncio.create_task(engine.store.transact(add(pause_s=0.05))) for _ in range(10 * CONNECTIONS)]
    await asyncio.sleep(0.02)
    before = time.perf_counter()
    await engine.store.transact(add(org=TWO))
    assert time.perf_counter() - before < 0.5
    assert len(backends(postgres)) <= CONNECTIONS
    await asyncio.gather(*busy)


async def test_a_small_transaction_goes_before_the_large_ones_that_wait(engine: PostgresEngine) -> None:
    order: list[str] = []

    def named(name: str) -> Work:
        async def work(transaction: PostgresTransaction) -> None:
            transaction.unit(ONE)
            order.append(name)
            await asyncio.sleep(0.01)

        return work

    large = [asyncio.create_task(engine.store.transact(named("large"), is_large=True)) for _ in range(4)]
    await asyncio.sleep(0.005)
    await engine.store.transact(named("small"))
    await asyncio.gather(*large)
    assert order.index("small") <= 2


async def test_locks_go_upwards_or_not_at_all(engine: PostgresEngine, postgres: PostgresDatabase) -> None:
    async def downwards(transaction: PostgresTransaction) -> None:
        transaction.unit(TWO).connection.execute(_ADD, (TWO, 1))
        transaction.unit(ONE)

    with pytest.raises(RuntimeError, match="locks go upwards"):
        await engine.store.transact(downwards)
    assert total(postgres, TWO) == 0


async def test_an_error_undoes_everything_and_gives_the_connection_back(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    async def failing(transaction: PostgresTransaction) -> None:
        await add()(transaction)
        raise LookupError("a defect")

    for _ in range(3 * CONNECTIONS):
        with pytest.raises(LookupError):
            await engine.store.transact(failing)
    assert await engine.store.transact(add()) == 1
    assert len(backends(postgres)) == 1


@pytest.mark.parametrize("amount", [2**63 - 1, 2**70])
async def test_a_total_beyond_64_bits_is_an_overflow(engine: PostgresEngine, amount: int) -> None:
    await engine.store.transact(add(5))
    with pytest.raises(AmountOverflow):
        await engine.store.transact(add(amount))
    assert await engine.store.transact(add(1)) == 6


async def test_what_the_database_undoes_for_another_is_done_once_more(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    await engine.store.transact(add(org=ONE))
    await engine.store.transact(add(org=TWO))
    runs: list[Org] = []

    def crossing(first: Org, second: Org) -> Work:
        async def work(transaction: PostgresTransaction) -> None:
            runs.append(first)
            connection = transaction._looking()  # without any lock of ours: the only way to a deadlock
            for org in (first, second):
                connection.execute("UPDATE decision_clock SET last_at = last_at + 10 WHERE org = ?", (org,))
                await asyncio.sleep(0.1)

        return work

    await asyncio.gather(engine.store.transact(crossing(ONE, TWO)), engine.store.transact(crossing(TWO, ONE)))
    assert len(runs) == 3
    assert (total(postgres, ONE), total(postgres, TWO)) == (21, 21)


async def test_connections_that_ended_while_idle_are_replaced_unnoticed(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    works = [engine.store.transact(add(org=Org(number))) for number in range(1, CONNECTIONS + 1)]
    await asyncio.gather(*works, engine.readers.run(ONE, lambda one: one.execute("SELECT 1").fetchall()))
    assert end(postgres) >= CONNECTIONS
    assert await engine.store.transact(add()) == 2
    assert await engine.readers.run(ONE, lambda one: one.execute("SELECT 1").fetchone()[0]) == 1


async def test_a_back_end_that_ends_within_a_statement_is_told_as_unavailable(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    async def long(transaction: PostgresTransaction) -> None:
        await add()(transaction)
        transaction.unit(ONE).connection.execute("SELECT pg_sleep(3)")

    task = asyncio.create_task(engine.store.transact(long))
    await asyncio.sleep(0.3)
    assert end(postgres, "active") == 1
    with pytest.raises(Unavailable):
        await task
    assert await engine.store.transact(add()) == 1


async def test_a_back_end_that_ends_before_the_commit_leaves_nothing(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    async def ended(transaction: PostgresTransaction) -> None:
        await add()(transaction)
        assert end(postgres, "idle in transaction") == 1
        await asyncio.sleep(0.05)

    with pytest.raises(Unavailable):
        await engine.store.transact(ended)
    assert await engine.store.transact(add()) == 1


async def test_a_cancelled_caller_leaves_nothing_and_its_turn_to_the_next(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    running = asyncio.create_task(engine.store.transact(add(pause_s=60)))
    waiting = [asyncio.create_task(engine.store.transact(add())) for _ in range(3)]
    await asyncio.sleep(0.1)
    running.cancel()
    waiting[0].cancel()
    results = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert [type(one) for one in results[:2]] == [asyncio.CancelledError] * 2
    assert results[2:] == [1, 2]
    assert total(postgres) == 2


async def test_a_lock_that_is_never_given_back_is_told_within_five_seconds(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    stuck = await asyncpg.connect(postgres.address)
    await stuck.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
    await stuck.execute("SELECT pg_advisory_xact_lock(6451827, 1)")
    before = time.perf_counter()
    results = await asyncio.gather(*(engine.store.transact(add()) for _ in range(3)), return_exceptions=True)
    assert time.perf_counter() - before < 5
    assert [type(one) for one in results] == [Unavailable] * 3
    await stuck.close()
    assert await engine.store.transact(add()) == 1


async def test_a_name_that_was_undone_is_not_remembered(engine: PostgresEngine) -> None:
    def called(agent: str) -> UsageEvent:
        subject = Subject(agent, "openai", "gpt-4o", "", "", "", 0)
        return UsageEvent(key=b"k" * 16, occurred_at=1, subject=subject, source=Source.INGEST)

    async def undone(transaction: PostgresTransaction) -> None:
        await transaction.unit(ONE).directory.resolve([called("ghost")])
        raise LookupError("undone")

    async def kept(transaction: PostgresTransaction) -> int:
        await transaction.unit(ONE).directory.resolve([called("real")])
        return int((await transaction.unit(ONE).directory.resolve([called("ghost")]))[0].agent)

    with pytest.raises(LookupError):
        await engine.store.transact(undone)
    assert await engine.store.transact(kept) == 3


async def test_a_name_is_not_shared_before_it_is_committed(engines: list[PostgresEngine]) -> None:
    """The database may know that a commit failed before the process that asked for it does."""
    names = engines[0].store._directories

    async def open_ended(transaction: PostgresTransaction) -> bool:
        unit = transaction.unit(ONE)
        unit.directory.know_agent("ghost")
        return names.of(unit.connection, ONE, only_committed=True)._cache is unit.directory._cache

    assert await engines[0].store.transact(open_ended) is False


async def test_a_savepoint_gives_up_the_locks_and_the_names_that_were_taken_in_it(
    engine: PostgresEngine, postgres: PostgresDatabase
) -> None:
    async def overflowing(transaction: PostgresTransaction) -> None:
        async with transaction.savepoint():
            await add(org=TWO)(transaction)
            transaction.unit(TWO).directory.know_agent("ghost")
            await add(2**63 - 1, org=TWO)(transaction)

    async def work(transaction: PostgresTransaction) -> None:
        await add(org=ONE)(transaction)
        with pytest.raises(AmountOverflow):
            await overflowing(transaction)
        transaction.unit(TWO).directory.know_agent("real")
        await add(7, org=TWO)(transaction)

    await engine.store.transact(work)
    assert (total(postgres, ONE), total(postgres, TWO)) == (1, 7)
    assert postgres.rows("SELECT name FROM agent WHERE org = 2 AND agent > 1") == [("real",)]
