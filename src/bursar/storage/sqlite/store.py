"""The writing side of the SQLite file: one transaction at a time, durable before it returns.

Small transactions that are asked for together share a commit, each in a savepoint of its own.
Work runs as coroutines that never suspend while SQLite is busy, so a transaction is not
interleaved with another task; a lock keeps the next one waiting. A rollback also forgets
what the organisation's caches learned inside it.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import AmountOverflow, StorageFull, Unavailable
from bursar.core.ids import Org
from bursar.storage.sqlite.alert_configs import SqliteConfigs
from bursar.storage.sqlite.budgets import SqliteBudgets, last_decided_at, orgs_due, orgs_with_budgets
from bursar.storage.sqlite.connection import FileLock, open_reader, open_writer
from bursar.storage.sqlite.directory import (
    DEFAULT_LIMITS,
    Canonicalise,
    DirectoryCache,
    Limits,
    SqliteDirectory,
)
from bursar.storage.sqlite.ledger import SqliteLedger
from bursar.storage.sqlite.migrate import migrate

Result = TypeVar("Result")

DATABASE_NAME = "bursar.db"
LOCK_NAME = "bursar.lock"
CACHED_ORGS_MAX = 1_000

TOGETHER_MAX = 16
"""Small transactions in one commit; most are a group of requests already (the desk's, the intake's)."""

_INSERT_AUDIT = """INSERT INTO audit (org, seq, at, actor, action, target, details)
    VALUES (?1, coalesce((SELECT max(seq) FROM audit WHERE org = ?1), 0) + 1, ?2, ?3, ?4, ?5, ?6)"""
_CONSTRAINT_DATATYPE = 3091
"""SQLite's code for a value that a STRICT column refuses; the standard library has no name for it."""
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what SQLite says into our errors; anything else is a defect and passes through."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # The low byte is the primary code: IOERR has many extended forms (write, fsync, …).
        if error.sqlite_errorcode & 0xFF in _FULL:
            raise StorageFull(
                f"the disk does not take writes ({error}); free space, nothing is lost"
            ) from error
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Unavailable("the database is busy; try again") from error
        raise
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode == _CONSTRAINT_DATATYPE:
            raise AmountOverflow("a total would leave 64 bits (9.2e9 US dollars)") from error
        raise
    except OverflowError as error:
        raise AmountOverflow("a total would leave 64 bits (9.2e9 US dollars)") from error


class SqliteUnit:
    """`UnitOfWork` of `ingestion` and of `enforcement`: one organisation within one transaction."""

    def __init__(self, connection: sqlite3.Connection, org: Org, directory: SqliteDirectory) -> None:
        self._connection = connection
        self.org = org
        self.directory = directory
        self.ledger = SqliteLedger(connection, org)

    @property
    def budgets(self) -> SqliteBudgets:
        """Its budgets."""
        return SqliteBudgets(self._connection, self.org, self.directory.know_agent)

    @property
    def configs(self) -> SqliteConfigs:
        """Its alert configs, and what its clients asked for."""
        return SqliteConfigs(self._connection, self.org, self.directory.know_agent)

    async def record(self, entry: AuditEntry) -> None:
        """Append to the organisation's audit log."""
        details = None if entry.details is None else msgspec.json.encode(entry.details).decode()
        row = (self.org, entry.at, entry.actor, entry.action, entry.target, details)
        self._connection.execute(_INSERT_AUDIT, row)


class SqliteTransaction:
    """`ingestion.ports.Transaction`, and the raw connection for this package's own use."""

    def __init__(self, store: "SqliteStore", connection: sqlite3.Connection) -> None:
        self._store = store
        self.connection = connection
        self.touched: set[Org] = set()

    def unit(self, org: Org) -> SqliteUnit:
        """Return the share of `org`."""
        self.touched.add(org)
        return SqliteUnit(self.connection, org, self._store.directory(self.connection, org))

    async def orgs_due(self, at: int) -> list[Org]:
        """Return the organisations with a hold or a raise that is over at `at`."""
        return orgs_due(self.connection, at)

    async def orgs_with_budgets(self) -> list[Org]:
        """Return the organisations that have budgets, or windows that wind down."""
        return orgs_with_budgets(self.connection)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo the inside when it raises, caches included."""
        self.connection.execute("SAVEPOINT part")
        try:
            with translated_errors():
                yield
        except BaseException:
            # A full disk may already have undone the whole transaction, savepoints and all.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO part")
                self.connection.execute("RELEASE part")
            self._store.forget(self.touched)
            raise
        self.connection.execute("RELEASE part")


class _Waiting(NamedTuple):
    """A small transaction that is asked for, and where its end is awaited."""

    work: Callable[[SqliteTransaction], Awaitable[object]]
    result: "asyncio.Future[object]"


class SqliteStore:
    """The open file: lock, writer, and the caches that go with them.

    `clock` gives server time in microseconds UTC; `canonicalise` names a new model's
    canonical provider and model; `limits` caps the names of each organisation.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Callable[[], int],
        canonicalise: Canonicalise,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.path = data_dir / DATABASE_NAME
        self._lock_file = FileLock(data_dir / LOCK_NAME)
        self._clock = clock
        self._canonicalise = canonicalise
        self._limits = limits
        self._turn = asyncio.Lock()
        self._caches: OrderedDict[Org, DirectoryCache] = OrderedDict()
        self._writer: sqlite3.Connection | None = None
        self._waiting: list[_Waiting] = []
        self._drain: asyncio.Task[None] | None = None
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    def open(self) -> None:
        """Take the data directory's lock, bring the schema up to date, open the writer.

        Raises:
            Unavailable: Another process writes this directory.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file.acquire()
        self._writer = open_writer(self.path)
        migrate(self.path, self._writer)

    def close(self) -> None:
        """Checkpoint, close and give the lock back."""
        if self._writer is not None:
            self._committer.shutdown()
            self._writer.close()
            self._writer = None
        self._lock_file.release()

    def last_decided_at(self) -> int:
        """Return the latest time by which budgets were decided: a restart goes on from there.

        Raises:
            Unavailable: The file is not open.
        """
        if self._writer is None:
            raise Unavailable("the database is closed")
        return last_decided_at(self._writer)

    def reader(self) -> sqlite3.Connection:
        """Return a new read-only connection to the same file."""
        return open_reader(self.path)

    async def transact(
        self, work: Callable[[SqliteTransaction], Awaitable[Result]], *, is_large: bool = False
    ) -> Result:
        """Run `work` and commit; on any error undo it and raise that, translated.

        Small ones that are asked for in the same turn of the loop share a commit, each in a
        savepoint of its own: a settlement and an authorisation need one sync, not two.

        `is_large` commits by itself, on a thread: SQLite syncs and checkpoints without the
        interpreter lock, so the loop can read and decode the next request meanwhile. For a
        small commit the hand-over would cost more than it gives.
        """
        if is_large:
            async with self._turn:
                return await self._run(work, commit=self._commit_aside)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(work, loop.create_future())
        self._waiting.append(waiting)
        if self._drain is None or self._drain.done():
            self._drain = loop.create_task(self._drain_waiting())
        return cast("Result", await waiting.result)

    async def _drain_waiting(self) -> None:
        while self._waiting:
            async with self._turn:
                group, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                # A caller that has gone meanwhile wants nothing any more.
                await self._run_group([one for one in group if not one.result.done()])

    async def _run_group(self, group: Sequence[_Waiting]) -> None:
        """Run works in one commit, and tell each what became of it."""
        if len(group) == 1:
            [one] = group
            await _told(one, self._run(one.work, commit=_commit))
            return
        outcomes: list[tuple[_Waiting, object, Exception | None]] = []

        async def together(transaction: SqliteTransaction) -> None:
            for one in group:
                outcomes.append((one, *await self._apart(one, transaction)))

        try:
            await self._run(together, commit=_commit)
        except Exception as failure:  # noqa: BLE001 - handed to those who wait for it
            outcomes = [(one, None, failure) for one in group]
        for one, result, error in outcomes:
            _tell(one, result, error)

    async def _apart(self, one: _Waiting, whole: SqliteTransaction) -> tuple[object, Exception | None]:
        """Run one work of a group in a savepoint; an error of its own undoes it alone."""
        own = SqliteTransaction(self, whole.connection)
        try:
            async with own.savepoint():
                return await one.work(own), None
        except Exception as error:
            if not whole.connection.in_transaction:
                raise  # a full disk has undone the others as well
            return None, error
        finally:
            whole.touched |= own.touched

    async def _run(
        self,
        work: Callable[[SqliteTransaction], Awaitable[Result]],
        *,
        commit: Callable[[sqlite3.Connection], Awaitable[None]],
    ) -> Result:
        """Run a transaction; the caller has the turn."""
        connection = self._writer
        if connection is None:
            raise Unavailable("the database is closed")
        transaction = SqliteTransaction(self, connection)
        with translated_errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = await work(transaction)
                await commit(connection)
            except BaseException:
                self._undo(connection, transaction)
                raise
        return result

    async def _commit_aside(self, connection: sqlite3.Connection) -> None:
        """Commit on the committing thread; a cancelled caller still waits for its end."""
        committing = asyncio.get_running_loop().run_in_executor(self._committer, connection.execute, "COMMIT")
        try:
            await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            raise

    def _undo(self, connection: sqlite3.Connection, transaction: SqliteTransaction) -> None:
        """Roll back; a full disk may already have done so by itself."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self.forget(transaction.touched)

    def directory(self, connection: sqlite3.Connection, org: Org) -> SqliteDirectory:
        """Return the directory of `org` with its cache, least recently used dropped first."""
        cache = self._caches.get(org)
        if cache is None:
            cache = self._caches[org] = DirectoryCache()
            if len(self._caches) > CACHED_ORGS_MAX:
                self._caches.popitem(last=False)
        else:
            self._caches.move_to_end(org)
        return SqliteDirectory(connection, org, cache, self._canonicalise, self._clock(), limits=self._limits)

    def forget(self, orgs: set[Org]) -> None:
        """Drop cached names of `orgs`: some may have been made by what was undone."""
        for org in orgs:
            self._caches.pop(org, None)


async def _commit(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")


async def _told(one: _Waiting, running: Awaitable[object]) -> None:
    try:
        result = await running
    except Exception as error:  # noqa: BLE001 - handed to the one who waits for it
        _tell(one, None, error)
    else:
        _tell(one, result, None)


def _tell(one: _Waiting, result: object, error: Exception | None) -> None:
    """Answer one caller, unless it has gone."""
    if one.result.done():
        return
    if error is None:
        one.result.set_result(result)
    else:
        one.result.set_exception(error)
