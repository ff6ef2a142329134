"""Events lie in months: made ahead, made when missing, and made again after one was taken away."""

import asyncio
import time
from datetime import UTC, datetime

import asyncpg
import pytest

from bursar.core.ids import Org
from bursar.core.time import MICROS_MAX, MICROS_MIN, micros_from_datetime
from bursar.storage.migrations.baseline import EARLY_TO, LATE_FROM
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.postgres.partitions import Month, Months, make, month_of, months_ahead
from bursar.storage.sql.ports import Transaction
from support.engines import PostgresDatabase, canonical_names

_PARTS = """SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = 'event'"""
_INSERT = """INSERT INTO event (org, occurred_at, key, batch, agent, model, project, feature, user, api_key,
        input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
        cache_write_1h_tokens, duration_ms, flags, card)
    VALUES (7, ?, ?, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)"""
_PLACES = "SELECT tableoid::regclass::text, occurred_at FROM event ORDER BY occurred_at"


def micros(*date: int) -> int:
    return micros_from_datetime(datetime(*date, tzinfo=UTC))  # type: ignore[arg-type,misc] # its first three


def engine(postgres: PostgresDatabase) -> PostgresEngine:
    made = postgres.engine(clock=lambda: time.time_ns() // 1_000, canonicalise=canonical_names)
    assert isinstance(made, PostgresEngine)
    return made


async def insert(opened: PostgresEngine, *instants: int) -> None:
    async def work(transaction: Transaction) -> None:
        unit = transaction.unit(Org(7))
        await opened.months.ensure(instants)
        for number, at in enumerate(instants):
            unit.connection.execute(_INSERT, (at, at.to_bytes(15, signed=True) + bytes([number])))

    await opened.store.transact(work)


def test_months_are_calendar_months_of_utc() -> None:
    last, first = micros(2027, 1, 1) - 1, micros(2027, 1, 1)
    assert (month_of(last), month_of(first)) == (Month(2026, 12), Month(2027, 1))
    assert month_of(first).starts_at == first
    assert [one.table for one in months_ahead(last, 1)] == ["event_2026_12", "event_2027_01"]
    assert month_of(EARLY_TO).starts_at == EARLY_TO
    assert month_of(LATE_FROM).starts_at == LATE_FROM


async def test_every_instant_has_a_place(postgres: PostgresDatabase) -> None:
    opened = engine(postgres)
    at = [
        MICROS_MIN, EARLY_TO - 1, EARLY_TO, micros(2024, 3, 1) - 1, micros(2024, 3, 1), LATE_FROM - 1,
        LATE_FROM, MICROS_MAX,
    ]  # fmt: skip
    await insert(opened, *at)
    await opened.close()
    parts = ["early", "early", "2020_01", "2024_02", "2024_03", "2039_12", "late", "late"]
    assert postgres.rows(_PLACES) == [(f"event_{part}", one) for part, one in zip(parts, at, strict=True)]


async def test_the_months_to_come_are_made_ahead(postgres: PostgresDatabase) -> None:
    now = micros(2031, 11, 30)
    opened = PostgresEngine(postgres.address, clock=lambda: now, canonicalise=canonical_names)
    await opened.make_room()
    await opened.close()
    made = {name for name, _ in postgres.rows(_PARTS)}
    assert {"event_2031_11", "event_2031_12", "event_2032_01", "event_2032_02"} <= made
    assert "event_2032_03" not in made


async def test_a_month_that_was_taken_away_is_made_again(postgres: PostgresDatabase) -> None:
    opened = engine(postgres)
    at = micros(2023, 5, 5)
    await insert(opened, at)
    postgres.rows("ALTER TABLE event DETACH PARTITION event_2023_05")
    await insert(opened, at + 1)
    await opened.close()
    assert postgres.rows(_PLACES) == [("event_2023_05_2", at + 1)]


async def test_many_who_need_the_same_month_at_once_make_it_once(postgres: PostgresDatabase) -> None:
    at = [micros(2021, month, 1) for month in range(1, 13)]
    await asyncio.gather(*(Months(postgres.address).ensure(at) for _ in range(8)))
    made = [name for name, _ in postgres.rows(_PARTS) if name.startswith("event_2021")]
    assert sorted(made) == [f"event_2021_{month:02}" for month in range(1, 13)]


async def test_making_a_month_waits_for_no_insert_and_no_insert_for_it(postgres: PostgresDatabase) -> None:
    opened = engine(postgres)
    await insert(opened, micros(2022, 1, 1))
    writing = await asyncpg.connect(postgres.address, server_settings={"search_path": "bursar"})
    making = await asyncpg.connect(postgres.address, server_settings={"search_path": "bursar"})
    copied = "INSERT INTO event (org, occurred_at, key, {0}) SELECT org, occurred_at + 1, key, {0} FROM event"
    columns = (
        'batch, agent, model, project, feature, "user", api_key, input_tokens, output_tokens,'
        " reasoning_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, duration_ms,"
        " flags, card"
    )
    async with asyncio.timeout(10), writing.transaction():
        await writing.execute("SET LOCAL bursar.org = '7'")
        await writing.execute(copied.format(columns))
        async with making.transaction():
            assert await make(making, [Month(2022, 2)]) == ["event_2022_02"]
            await writing.execute("INSERT INTO batch VALUES (7, 1, 1, '[]', 1, 1)")
            await insert(opened, micros(2022, 1, 2))
    for own in (writing, making):
        await own.close()
    await opened.close()
    assert len(postgres.rows(_PLACES)) == 3


@pytest.mark.parametrize("table", ["event_2022_02", "event"])
async def test_a_month_shows_itself_to_its_organisation_alone(postgres: PostgresDatabase, table: str) -> None:
    opened = engine(postgres)
    await insert(opened, micros(2022, 2, 1))
    await opened.close()
    own = await asyncpg.connect(postgres.address)
    seen = {}
    for org in ("", "6", "7", "0"):
        await own.execute(f"SET bursar.org = '{org}'")
        seen[org] = await own.fetchval(f"SELECT count(*) FROM bursar.{table}")
    await own.close()
    assert seen == {"": 0, "6": 0, "7": 1, "0": 1}
