"""What PostgreSQL itself needs for the batches that ingest writes: the bare baseline of the server profile.

Rows are recorded beforehand from the product's own pipeline. *Bare* is what a careful program
would do with the same driver: a batch goes by COPY into a staging table, its new keys and events from
there into their tables, and the same roll-up rows are added by upserts from arrays, in order of
key; one commit a batch, as many connections as the product's clients have. Those sums were worked out
beforehand and cost nothing here. *Bare, summed by the database* is the program that has only the
events, as ingest does: its roll-ups are sums over the new rows, by one statement.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from baseline import record
from bursar.core.usage import UsageEvent
from bursar.ledger.rows import MEASURES, PLAIN_COLUMNS
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


_SUMMED = {
    "requests": "count(*)",
    "errors": "sum(is_error)",
    "unpriced_requests": "count(*) FILTER (WHERE cost_nusd IS NULL)",
    "unpriced_tokens": "coalesce(sum(input_tokens + output_tokens) FILTER (WHERE cost_nusd IS NULL), 0)",
    "cost_nusd": "coalesce(sum(cost_nusd), 0)",
}
_SPAN = {"first_at": "min(occurred_at)", "last_at": "max(occurred_at)"}
_HOUR = "occurred_at - occurred_at % 3600000000"


def _summed(table: str, dimensions: str, **more: str) -> str:
    """Return the upsert of one roll-up from the events that were just added."""
    names = dimensions.split(", ")
    sums = {name: _SUMMED.get(name, f"sum({name})") for name in MEASURES}
    values = [_HOUR if name == "hour" else f'"{name}"' for name in names]
    columns = ", ".join(f'"{name}"' for name in (*names, *sums, *more))
    adds = [f"{name} = {table}.{name} + excluded.{name}" for name in sums]
    adds += [f"{name} = {kind}({table}.{name}, excluded.{name})"
             for name, kind in (("first_at", "least"), ("last_at", "greatest")) if name in more]  # fmt: skip
    return f"""INSERT INTO {table} (org, {columns})
        SELECT {ORG}, {", ".join((*values, *sums.values(), *more.values()))} FROM added
        {"WHERE run IS NOT NULL" if table == "run" else ""}
        GROUP BY {", ".join(map(str, range(2, len(names) + 2)))}
        ON CONFLICT (org, {", ".join(f'"{name}"' for name in names)}) DO UPDATE SET {", ".join(adds)}"""


# Histograms of durations cannot be summed in SQL and are left out: to the baseline's advantage.
_BY_DATABASE = {
    "of_agent": _summed("rollup_agent", "hour, agent, model, billing", durations="''::bytea", **_SPAN),
    "of_project": _summed("rollup_project", "hour, project, model", durations="''::bytea", **_SPAN),
    "of_feature": _summed("rollup_feature", "hour, feature"),
    "of_user": _summed("rollup_user", "hour, user"),
    "of_total": _summed("agent_total", "agent", **_SPAN),
}
_ALL_BY_DATABASE = f"""WITH new AS ({_KEYS}), added AS (
    INSERT INTO event (org, {_COLUMNS}) SELECT {ORG}, {_COLUMNS} FROM staged
    WHERE key IN (SELECT key FROM new)
    RETURNING *), {", ".join(f"{name} AS ({sql})" for name, sql in _BY_DATABASE.items())}
    {_summed("run", "run", agent="min(agent)", **_SPAN)}"""


class Bare(NamedTuple):
    """One recorded batch: event rows without the organisation, and each roll-up's rows by statement."""

    events: list[Sequence[Any]]
    sums: list[tuple[str, list[list[Any]]]]


_Write = Callable[[asyncpg.Connection, Bare], Awaitable[None]]


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


def replay(
    address: str, batches: Sequence[Bare], connections: int, *, warm: int, by_database: bool = False
) -> BareRun:
    """Write recorded batches over so many connections; the first `warm` are not counted.

    `by_database` lets the database work out the roll-ups.
    """
    write = _write_summed if by_database else _write
    return asyncio.run(_replay(address, batches, connections, warm, write))


async def _replay(
    address: str, batches: Sequence[Bare], connections: int, warm: int, write: _Write
) -> BareRun:
    engine = PostgresEngine(address, clock=lambda: time.time_ns() // 1000, canonicalise=lambda *names: names)
    engine.open()
    await engine.close()
    open_ones = [await _connected(address) for _ in range(connections)]
    await _spread(open_ones, list(batches[:warm]), write)
    cpu, begun = time.process_time(), time.perf_counter()
    await _spread(open_ones, list(batches[warm:]), write)
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


async def _spread(connections: Sequence[asyncpg.Connection], batches: list[Bare], write: _Write) -> None:
    batches.reverse()

    async def write_on(own: asyncpg.Connection) -> None:
        while batches:
            await write(own, batches.pop())

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


async def _write_summed(own: asyncpg.Connection, batch: Bare) -> None:
    await own.execute("BEGIN")
    await own.copy_records_to_table("staged", records=batch.events, columns=list(PLAIN_COLUMNS))
    await own.execute(_ALL_BY_DATABASE)
    await own.execute("COMMIT")
