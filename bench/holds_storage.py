"""The storage part of a hold, without HTTP: load, decide, write, sync, 64 questions a commit.

Beside it the same statements, reads included, replayed on a bare SQLite file of the same schema and
durability: what remains to that is what deciding costs.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from baseline import without_adapters
from bursar.budgets.amounts import Amounts
from bursar.budgets.budget import Budget, Scope
from bursar.budgets.hold import Granted, Request
from bursar.budgets.matching import Call
from bursar.core.ids import Org, new_id
from bursar.core.periods import Period
from bursar.core.usage import UsageEvent
from bursar.enforcement import changes
from bursar.enforcement.changes import Change
from bursar.enforcement.commits import decide_all
from bursar.enforcement.questions import Authorise
from bursar.settings import Settings
from bursar.storage.sql.budgets import SqlBudgets
from bursar.storage.sqlite.connection import open_writer
from bursar.storage.sqlite.migrate import migrate
from bursar.storage.sqlite.store import SqliteTransaction
from bursar.wiring import Treasury
from quiet import busy_s

TOGETHER = 64
COMMITS = 400
WARM = 40
AGENTS, PROJECTS = 5, 4
LIMIT_NUSD = 10**15
WORST_NUSD = 11_000_000
Recorded = list[tuple[str, Sequence[Sequence[object]]]]


class Run(NamedTuple):
    """How authorisations went: a second at the median commit and at the slowest tenth, CPU µs each."""

    rate: float
    slow_rate: float
    cpu_us: float
    neighbours: float


def budgets(created_at: int) -> list[Budget]:
    """Return an organisation's, its projects' and its agents' budgets: three match each call."""
    scopes = [Scope()]
    scopes += [Scope(project=f"project-{number}") for number in range(PROJECTS)]
    scopes += [Scope(agent=f"agent-{number}") for number in range(AGENTS)]
    scopes += [Scope(agent=f"agent-{number:03d}") for number in range(AGENTS)]
    return [
        Budget(id=new_id(), limit=LIMIT_NUSD, created_at=created_at, scope=scope, period=Period.TOTAL)
        for scope in scopes
    ]


async def make_budgets(treasury: Treasury, org: Org) -> None:
    """Store `budgets` in an organisation, as old as the ledger can tell."""
    for budget in budgets(1):

        async def create(change: Change, budget: Budget = budget) -> Budget:
            return await changes.create(change, budget)

        await treasury.enforcement.desk.change(org, create)


def prepare_budgets(data_dir: Path, *, database: str = "") -> None:
    """Store `budgets` in the first organisation of a ledger that nobody serves."""

    async def work() -> None:
        treasury = Treasury(Settings(data_dir=data_dir, database_url=database))
        organisation, *_ = await treasury.organisations.list()
        await make_budgets(treasury, organisation.org)
        await treasury.stop()

    asyncio.run(work())


def groups() -> Iterator[list[Authorise]]:
    """Yield the questions of one commit after the other."""
    numbers = count()
    while True:
        yield [_authorise(number) for number in islice(numbers, TOGETHER)]


def _authorise(number: int) -> Authorise:
    agent = number % AGENTS
    call = Call(
        agent=f"agent-{agent}", project=f"project-{agent % PROJECTS}", provider="openai", model="gpt-4o"
    )
    amounts = Amounts(WORST_NUSD, 1_800, 1_000, 800)
    key = new_id()
    return Authorise(Request(hold_id=new_id(), key=key, digest=key, call=call, amounts=amounts))


class Bench:
    """A treasury on a file of its own, asked by one commit after the other."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.runner = asyncio.Runner()
        self.treasury = Treasury(Settings(data_dir=folder))
        self.org = self.runner.run(self.treasury.create_organisation("default", "UTC")).org
        self.recorded: list[Recorded] | None = None
        self.runner.run(make_budgets(self.treasury, self.org))

    def close(self) -> None:
        """Close and remove the file."""
        self.runner.run(self.treasury.stop())
        self.runner.close()
        shutil.rmtree(self.folder)

    def ask(self, commits: int) -> Run:
        """Authorise `TOGETHER` × `commits` calls."""
        made = list(islice(groups(), commits))
        return self.runner.run(self._ask(made))

    def settle_events(self, events: Iterator[UsageEvent], many: int) -> None:
        """Record that many events, each counted by the budgets that it meets."""

        async def fill() -> None:
            for _ in range(0, many, 1_000):
                part = list(islice(events, 1_000))
                receipt = await self.treasury.intake.record(self.org, part)
                assert receipt.recorded == len(part)

        self.runner.run(fill())

    async def _ask(self, made: Sequence[Sequence[Authorise]]) -> Run:
        enforcement, store = self.treasury.enforcement, self.treasury.store
        times: list[float] = []
        busy, cpu, begun = busy_s(), time.process_time(), time.perf_counter()

        for group in made:

            async def decide(transaction: SqliteTransaction, group: Sequence[Authorise] = group) -> None:
                stored = self._budgets_of(transaction)
                index = await enforcement.indexes.of(self.org, stored)
                answers, *_ = await decide_all(stored, index, group, enforcement.now())
                assert all(isinstance(answer, Granted) for answer in answers)

            begin = time.perf_counter()
            await store.transact(decide)
            times.append(time.perf_counter() - begin)
        return _run_of(times, busy, cpu, begun)

    def _budgets_of(self, transaction: SqliteTransaction) -> SqlBudgets:
        if self.recorded is None:
            return transaction.unit(self.org).budgets
        self.recorded.append([])
        recorder = _Recorder(transaction.connection, self.recorded[-1])
        return SqlBudgets(recorder, self.org)  # type: ignore[arg-type] # a stand-in


class _Recorder:
    """A connection that does what it is told and remembers every statement."""

    def __init__(self, connection: sqlite3.Connection, statements: Recorded) -> None:
        self._connection = connection
        self._statements = statements

    def execute(self, sql: str, row: Sequence[object] = ()) -> sqlite3.Cursor:
        self._statements.append((sql, [tuple(row)]))
        return self._connection.execute(sql, row)

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        kept = [tuple(row) for row in rows]
        self._statements.append((sql, kept))
        return self._connection.executemany(sql, kept)


def record(folder: Path) -> list[Recorded]:
    """Return every statement of `COMMITS` commits on a fresh file."""
    bench = Bench(folder)
    bench.recorded = []
    bench.ask(COMMITS)
    recorded = bench.recorded
    bench.close()
    return recorded


def replay(folder: Path, recorded: Sequence[Recorded]) -> Run:
    """Run recorded commits on an empty file of the same schema, bound as the library binds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    connection = open_writer(folder / "bare.db")
    migrate(folder / "bare.db", connection)
    times: list[float] = []
    with without_adapters():
        busy, cpu, begun = busy_s(), time.process_time(), time.perf_counter()
        for commit in recorded:
            begin = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            for sql, rows in commit:
                if len(rows) == 1:
                    connection.execute(sql, rows[0]).fetchall()
                else:
                    connection.executemany(sql, rows)
            connection.execute("COMMIT")
            times.append(time.perf_counter() - begin)
    run = _run_of(times, busy, cpu, begun)
    connection.close()
    shutil.rmtree(folder)
    return run


def _run_of(times: Sequence[float], busy: float, cpu: float, begun: float) -> Run:
    used, wall = time.process_time() - cpu, time.perf_counter() - begun
    ordered = sorted(times[WARM:])
    middle, slow = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.9)]
    each = used / len(times) / TOGETHER * 1e6
    return Run(TOGETHER / middle, TOGETHER / slow, each, max(busy_s() - busy - used, 0.0) / wall)
