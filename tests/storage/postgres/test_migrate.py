"""The schema is changed step by step: by one run at a time, whole steps only, and in two halves."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import asyncpg
import pytest

from bursar.core.errors import Conflict, InvalidInput
from bursar.storage.migrations import HEAD
from bursar.storage.migrations.steps import Phase, Step, postgres_steps
from bursar.storage.postgres import locks
from bursar.storage.postgres.migrate import migrate, states
from support.engines import PostgresDatabase

BESIDE = "CREATE TABLE beside (org BIGINT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (org, seq))"
INDEX = "CREATE INDEX CONCURRENTLY IF NOT EXISTS beside_by_seq ON bursar.beside (org, seq)"


def step(name: str, *statements: str, phase: Phase = Phase.PRE) -> Step:
    return Step(name, phase, f"step {name}", (), statements)


def names(steps: Sequence[Step]) -> list[str]:
    return [one.name for one in steps]


async def applied(postgres: PostgresDatabase, steps: Sequence[Step]) -> list[str]:
    return [one.name for one, at in await states(postgres.address, steps) if at is not None]


async def test_an_empty_database_gets_every_step_and_a_second_run_finds_nothing(
    bare: PostgresDatabase,
) -> None:
    before = time.time_ns() // 1_000
    assert [at for _, at in await states(bare.address)] == [None] * len(postgres_steps())
    heard: list[str] = []
    ran = await migrate(bare.address, say=heard.append)
    assert names(ran) == names(postgres_steps())
    assert ran[-1].name == HEAD
    assert [line[:9] for line in heard] == [f"{one.name} {one.phase}:"[:9] for one in ran]
    assert all((at or 0) >= before for _, at in await states(bare.address))
    assert await migrate(bare.address, say=heard.append) == []


async def test_runs_at_the_same_time_wait_for_each_other(bare: PostgresDatabase) -> None:
    heard: list[str] = []
    ran = await asyncio.gather(*(migrate(bare.address, say=heard.append) for _ in range(4)))
    assert sorted(map(len, ran)) == [0, 0, 0, len(postgres_steps())]
    assert heard.count("another process changes the schema; waiting for it") == 3


async def test_a_step_that_fails_leaves_nothing_of_itself_and_all_before_it(
    postgres: PostgresDatabase,
) -> None:
    before, half = [*postgres_steps(), step("9001", BESIDE)], "CREATE TABLE half (org BIGINT)"
    broken = [*before, step("9002", half, "SELECT 1/0")]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(postgres.address, steps=broken)
    assert (await applied(postgres, broken))[-1] == "9001"
    assert postgres.rows("SELECT to_regclass('bursar.half') IS NULL") == [(True,)]
    mended = [*before, step("9002", half)]
    assert names(await migrate(postgres.address, steps=mended)) == ["9002"]


_END = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'bursar migrate' AND datname = current_database()"""
KILLED = """
import asyncio, sys
from bursar.storage.migrations.steps import Phase, Step, postgres_steps
from bursar.storage.postgres.migrate import migrate
slow = Step("9002", Phase.PRE, "slow", (), ("CREATE TABLE half (org BIGINT)", "SELECT pg_sleep(60)"))
steps = [*postgres_steps(), Step("9001", Phase.PRE, "quick", (), (sys.argv[2],)), slow]
asyncio.run(migrate(sys.argv[1], steps=steps, say=lambda line: print(line, flush=True)))
"""


def test_a_run_that_is_killed_in_the_middle_is_finished_by_the_next(postgres: PostgresDatabase) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, postgres.address, BESIDE], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    while not killed.stdout.readline().startswith("9002"):
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    # The server goes on with what the killed one had asked for until it looks for its client.
    postgres.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bursar migrate'"
    )
    whole = [*postgres_steps(), step("9001", BESIDE), step("9002", "CREATE TABLE half (org BIGINT)")]
    assert asyncio.run(applied(postgres, whole))[-1] == "9001"
    assert names(asyncio.run(migrate(postgres.address, steps=whole))) == ["9002"]
    assert asyncio.run(migrate(postgres.address, steps=whole)) == []


async def test_an_index_that_was_left_half_built_is_built_anew(postgres: PostgresDatabase) -> None:
    """What a killed CREATE INDEX CONCURRENTLY leaves: an index that is there and not valid."""
    beside, index = step("9001", BESIDE), step("9002", INDEX)
    await migrate(postgres.address, steps=[*postgres_steps(), beside])
    postgres.rows("INSERT INTO bursar.beside VALUES (1, 1), (1, 2)")
    with pytest.raises(asyncpg.PostgresError):
        await _interrupted(postgres.address)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'bursar.beside_by_seq'::regclass"
    assert postgres.rows(valid) == [(False,)]
    assert names(await migrate(postgres.address, steps=[*postgres_steps(), beside, index])) == ["9002"]
    assert postgres.rows(valid) == [(True,)]


async def _interrupted(address: str) -> None:
    """Begin to build the index while a transaction keeps it from ending, and be stopped."""
    writing = await asyncpg.connect(address)
    building = await asyncpg.connect(address)
    try:
        await writing.execute("BEGIN; INSERT INTO bursar.beside VALUES (1, 3)")
        await building.execute("SET lock_timeout = 0; SET statement_timeout = 300")
        await building.execute(INDEX)
    finally:
        await writing.execute("ROLLBACK")
        await writing.close()
        await building.close()


async def test_the_halves_of_an_upgrade_run_in_their_order(postgres: PostgresDatabase) -> None:
    steps = [
        *postgres_steps(),
        step("9001", BESIDE),
        step("9002", "ALTER TABLE beside DROP COLUMN seq", phase=Phase.POST),
        step("9003", "ALTER TABLE beside ADD COLUMN at BIGINT"),
    ]
    with pytest.raises(
        Conflict, match="step 9001 of phase pre is missing; run `bursar migrate --phase pre` first"
    ):
        await migrate(postgres.address, phase=Phase.POST, steps=steps)
    assert names(await migrate(postgres.address, phase=Phase.PRE, steps=steps)) == ["9001", "9003"]
    assert names(await migrate(postgres.address, phase=Phase.POST, steps=steps)) == ["9002"]
    assert await migrate(postgres.address, steps=steps) == []


async def test_a_step_waits_for_a_table_in_use_without_keeping_others_from_it(
    postgres: PostgresDatabase,
) -> None:
    using = await asyncpg.connect(postgres.address)
    await using.execute("BEGIN; SELECT FROM bursar.batch")
    change = step("9001", "ALTER TABLE batch ADD COLUMN beside BIGINT")
    running = asyncio.create_task(migrate(postgres.address, steps=[*postgres_steps(), change]))
    slowest = 0.0
    for _ in range(6):
        asked_at = time.monotonic()
        other = await asyncpg.connect(postgres.address)
        await other.execute("SELECT FROM bursar.batch")
        await other.close()
        slowest = max(slowest, time.monotonic() - asked_at)
        await asyncio.sleep(0.3)
    assert not running.done()
    assert slowest < 3
    await using.execute("COMMIT")
    await using.close()
    assert names(await running) == ["9001"]


async def test_a_schema_of_the_same_name_that_is_not_ours_is_left_alone(bare: PostgresDatabase) -> None:
    bare.rows("CREATE SCHEMA bursar AUTHORIZATION bursar")
    bare.rows("CREATE TABLE bursar.agent (name TEXT)")
    bare.rows("ALTER TABLE bursar.agent OWNER TO bursar")
    with pytest.raises(InvalidInput, match="something else lives in the schema bursar"):
        await migrate(bare.address)
    assert bare.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'bursar'::regnamespace") == [(1,)]


async def test_a_role_that_may_not_make_the_schema_is_told(bare: PostgresDatabase) -> None:
    bare.rows(f"ALTER DATABASE {bare.name} OWNER TO postgres")
    with pytest.raises(InvalidInput, match="permission denied for database"):
        await migrate(bare.address)


async def test_the_lock_is_free_after_a_run(postgres: PostgresDatabase) -> None:
    await migrate(postgres.address)
    own = await asyncpg.connect(postgres.address)
    assert await own.fetchval(f"SELECT pg_try_advisory_lock{locks.MIGRATION}")
    await own.close()
