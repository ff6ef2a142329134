"""The bare baseline: the statements that ingest runs, with their rows made beforehand.

A recording connection stands in the product's own unit of work and keeps each statement
with its parameters. Replayed on an empty file of the same schema, opened by the same code
(same PRAGMAs, same durability), they cost what SQLite and its binding cost: keys, rows,
roll-up upserts, one commit a batch. What ingest needs beyond that is its own.

*Bare* is what a careful program with the standard library would do: whole rows, bound as the
library binds them. The product's own shortcuts (decision 0005) are taken out again; a second
replay, *bare with our bindings*, leaves them in and shows what they give the baseline.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bursar.core.ids import Org
from bursar.core.time import system_clock
from bursar.core.usage import UsageEvent
from bursar.ingestion.pipeline import BatchResult, process_batch
from bursar.ledger.rows import ENTRY_COLUMNS, SELDOM_COLUMNS
from bursar.pricing.engine import PriceBook, canonical
from bursar.storage.sql.ledger import _INSERT_EVENT, _INSERT_PLAIN_EVENT
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


def as_it_comes(recorded: Sequence[Sequence[Statement]]) -> list[list[Statement]]:
    """Return recorded batches with whole event rows in place of the product's short ones."""
    return [
        [
            (_INSERT_EVENT, [_whole(row) for row in rows]) if sql == _INSERT_PLAIN_EVENT else (sql, rows)
            for sql, rows in batch
        ]
        for batch in recorded
    ]


def _whole(row: Sequence[object]) -> tuple[object, ...]:
    values = iter(row)
    return (next(values), *(None if name in SELDOM_COLUMNS else next(values) for name in ENTRY_COLUMNS))


@contextmanager
def without_adapters() -> Iterator[None]:
    """Bind as the standard library does by itself, and give the adapters back afterwards."""
    kept = dict(sqlite3.adapters)
    sqlite3.adapters.clear()
    try:
        yield
    finally:
        sqlite3.adapters.update(kept)


def replay(folder: Path, recorded: Sequence[Sequence[Statement]], events: int, *, warm: int = 20) -> Replay:
    """Run recorded batches of `events` each on an empty file; the first `warm` are not counted."""
    with without_adapters():
        return _replay(folder, as_it_comes(recorded), events, warm, sqlite3.adapters.clear)


def replay_with_our_bindings(
    folder: Path, recorded: Sequence[Sequence[Statement]], events: int, *, warm: int = 20
) -> Replay:
    """Do the same with the product's statements and adapters."""
    return _replay(folder, recorded, events, warm, lambda: None)


def _replay(
    folder: Path,
    recorded: Sequence[Sequence[Statement]],
    events: int,
    warm: int,
    once_open: Callable[[], None],
) -> Replay:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    connection = open_writer(folder / "bare.db")
    migrate(folder / "bare.db", connection)
    once_open()
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
