"""What PostgreSQL itself needs for the batches that ingest writes: the bare baseline of the server profile.

Rows are recorded beforehand from the product's own pipeline. *Bare* is what a careful program
would do with the same driver: a batch goes by COPY into a staging table, its new keys and events from
there into their tables, and the same roll-up rows are added by upserts from arrays, in order of
key; one commit a batch, as many connections as the product's clients have.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from baseline import record
from bursar.core.usage import UsageEvent
from bursar.ledger.rows import PLAIN_COLUMNS
from bursar.storage.postgres import ledger as ours
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.postgres.spelling import spelled
from bursar.storage.sql.ledger import (
    _ADD_AGENT,
    _ADD_AGENT_HOUR,
    _ADD_FEATURE_HOUR,
    _ADD_PROJECT_HOUR,
    _ADD_RUN,
    _ADD_USER_HOUR,
    _INSERT_PLAIN_EVENT,
)

ORG = 1
_STAGED = ", ".join(f'"{name}" {ours.kind_of(name)}' for name in PLAIN_COLUMNS)
_COLUMNS = ", ".join(f'"{name}"' for name in PLAIN_COLUMNS)
_STAGE = f"CREATE TEMP TABLE staged ({_STAGED}) ON COMMIT DELETE ROWS"
_KEYS = f"""INSERT INTO event_key (org, key, occurred_at, revision)
    SELECT {ORG}, key, occurred_at, 0 FROM staged ON CONFLICT DO NOTHING RETURNING key"""
_EVENTS = f"INSERT INTO event (org, {_COLUMNS}) SELECT {ORG}, {_COLUMNS} FROM staged"
_ROLL_UPS = {
    _ADD_AGENT_HOUR: ours.BY_AGENT.add,
    _ADD_PROJECT_HOUR: ours.BY_PROJECT.add,
    _ADD_FEATURE_HOUR: ours.BY_FEATURE.add,
    _ADD_USER_HOUR: ours.BY_USER.add,
    _ADD_AGENT: ours.AGENTS.add,
    _ADD_RUN: ours.ADD_RUNS,
}


class Bare(NamedTuple):
    """One recorded batch: event rows without the organisation, and each roll-up's rows by statement."""

    events: list[Sequence[Any]]
    sums: list[tuple[str, list[list[Any]]]]


class BareRun(NamedTuple):
    """How a replay went: events a second, the client's CPU µs an event."""

    rate: float
    client_cpu_us: float
    neighbours: float = 0.0


def recorded(folder: Path, batches: Sequence[Sequence[UsageEvent]]) -> list[Bare]:
    """Return what ingest of `batches` writes, batch by batch."""
    found = []
    for statements in record(folder, batches):
        events: list[Sequence[Any]] = []
        sums: list[tuple[str, list[list[Any]]]] = []
        for sql, rows in statements:
            if sql == _INSERT_PLAIN_EVENT:
                events = [row[1:] for row in rows]
            elif sql in _ROLL_UPS and rows:
                columns = [list(column) for column in zip(*sorted(row[1:] for row in rows), strict=True)]
                sums.append((spelled(_ROLL_UPS[sql]).text, columns))
        found.append(Bare(events, sums))
    return found


def replay(address: str, batches: Sequence[Bare], connections: int, *, warm: int) -> BareRun:
    """Write recorded batches over so many connections; the first `warm` are not counted."""
    return asyncio.run(_replay(address, batches, connections, warm))


async def _replay(address: str, batches: Sequence[Bare], connections: int, warm: int) -> BareRun:
    engine = PostgresEngine(address, clock=lambda: time.time_ns() // 1000, canonicalise=lambda *names: names)
    engine.open()
    await engine.close()
    open_ones = [await _connected(address) for _ in range(connections)]
    await _spread(open_ones, list(batches[:warm]))
    cpu, begun = time.process_time(), time.perf_counter()
    await _spread(open_ones, list(batches[warm:]))
    wall, used = time.perf_counter() - begun, time.process_time() - cpu
    for own in open_ones:
        await own.close()
    events = sum(len(batch.events) for batch in batches[warm:])
    return BareRun(events / wall, used / events * 1e6)


async def _connected(address: str) -> asyncpg.Connection:
    settings = {"search_path": "bursar, public", "jit": "off", "bursar.org": str(ORG)}
    own = await asyncpg.connect(address, server_settings=settings)
    await own.execute(_STAGE)
    return own


async def _spread(connections: Sequence[asyncpg.Connection], batches: list[Bare]) -> None:
    batches.reverse()

    async def write_on(own: asyncpg.Connection) -> None:
        while batches:
            await _write(own, batches.pop())

    await asyncio.gather(*map(write_on, connections))


async def _write(own: asyncpg.Connection, batch: Bare) -> None:
    await own.execute("BEGIN")
    await own.copy_records_to_table("staged", records=batch.events, columns=list(PLAIN_COLUMNS))
    new = await own.fetch(_KEYS)
    assert len(new) == len(batch.events)
    await own.execute(_EVENTS)
    for statement, columns in batch.sums:
        await own.execute(statement, ORG, *columns)
    await own.execute("COMMIT")
