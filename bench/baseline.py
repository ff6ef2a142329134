"""The bare baseline: the statements that ingest runs, with their rows made beforehand.

A recording connection stands in the product's own unit of work and keeps each statement
with its parameters. Replayed on an empty file of the same schema, opened by the same code
(same PRAGMAs, same durability), they cost what SQLite and its binding cost: keys, rows,
roll-up upserts, one commit a batch. What ingest needs beyond that is its own.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bursar.core.ids import Org
from bursar.core.time import system_clock
from bursar.core.usage import UsageEvent
from bursar.ingestion.pipeline import BatchResult, process_batch
from bursar.pricing.engine import PriceBook, canonical
from bursar.storage.sqlite.connection import open_writer
from bursar.storage.sqlite.migrate import migrate
from bursar.storage.sqlite.store import SqliteStore, SqliteTransaction
from quiet import busy_s

ORG = Org(1)
Statement = tuple[str, Sequence[Sequence[object]]]
"""SQL, and the rows it runs with; a single execution has one row."""


class Replay(NamedTuple):
    """How a replay went: events a second, CPU µs an event, the batches' median and 99 % time."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    neighbours: float


class _Recorder:
    """A connection that does what it is told and remembers what writes."""

    def __init__(self, connection: sqlite3.Connection, statements: list[Statement]) -> None:
        self._connection = connection
        self._statements = statements

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes

    def execute(self, sql: str, row: Sequence[object] = ()) -> sqlite3.Cursor:
        if not sql.lstrip().upper().startswith("SELECT"):
            self._statements.append((sql, [row]))
        return self._connection.execute(sql, row)

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        kept = list(rows)
        self._statements.append((sql, kept))
        return self._connection.executemany(sql, kept)


def record(folder: Path, batches: Sequence[Sequence[UsageEvent]]) -> list[list[Statement]]:
    """Return what ingest of `batches` into an empty file writes, batch by batch."""
    shutil.rmtree(folder, ignore_errors=True)
    store = SqliteStore(folder, clock=system_clock, canonicalise=_names)
    store.open()
    book = PriceBook(())
    recorded: list[list[Statement]] = []

    def work_of(batch: Sequence[UsageEvent]) -> Callable[[SqliteTransaction], object]:
        async def work(transaction: SqliteTransaction) -> BatchResult:
            recorder = _Recorder(transaction.connection, recorded[-1])
            watched = SqliteTransaction(store, recorder)  # type: ignore[arg-type] # a stand-in
            return await process_batch(watched.unit(ORG), batch, book, now=system_clock())

        return work

    async def run() -> None:
        for batch in batches:
            recorded.append([])
            await store.transact(work_of(batch))  # type: ignore[arg-type]

    asyncio.run(run())
    store.close()
    shutil.rmtree(folder)
    return recorded


def replay(folder: Path, recorded: Sequence[Sequence[Statement]], events: int, *, warm: int = 20) -> Replay:
    """Run recorded batches of `events` each on an empty file; the first `warm` are not counted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    connection = open_writer(folder / "bare.db")
    migrate(folder / "bare.db", connection)
    for batch in recorded[:warm]:
        _run(connection, batch)
    times: list[float] = []
    busy, cpu = busy_s(), time.process_time()
    for batch in recorded[warm:]:
        begin = time.perf_counter()
        _run(connection, batch)
        times.append(time.perf_counter() - begin)
    cpu, busy = time.process_time() - cpu, busy_s() - busy
    connection.close()
    shutil.rmtree(folder)
    count = len(times) * events
    ordered = sorted(times)
    return Replay(
        count / sum(times),
        cpu / count * 1e6,
        ordered[len(ordered) // 2] * 1e3,
        ordered[int(len(ordered) * 0.99)] * 1e3,
        max(busy - cpu, 0.0) / sum(times),
    )


def _run(connection: sqlite3.Connection, batch: Sequence[Statement]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for sql, rows in batch:
        connection.executemany(sql, rows)
    connection.execute("COMMIT")


def _names(provider: str, model: str) -> tuple[str, str]:
    named = canonical(provider, model)
    return (named.provider, named.model)
