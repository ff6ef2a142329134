"""The writing side of the SQLite file: one transaction at a time, durable before it returns.

Small transactions that are asked for together share a commit, each in a savepoint of its own.
Work runs as coroutines that never suspend while SQLite is busy, so a transaction is not
interleaved with another task; a lock keeps the next one waiting. A rollback also forgets
what the organisation's caches learned inside it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from bursar.core.errors import AmountOverflow, Conflict, StorageFull, Unavailable
from bursar.core.ids import Org
from bursar.storage.sql.budgets import last_decided_at, orgs_due, orgs_with_budgets
from bursar.storage.sql.directories import Directories
from bursar.storage.sql.directory import DEFAULT_LIMITS, Canonicalise, Limits
from bursar.storage.sql.unit import SqlUnit
from bursar.storage.sqlite.connection import FileLock, SqliteConnection, open_reader, open_writer
from bursar.storage.sqlite.ledger import SqliteLedger
from bursar.storage.sqlite.migrate import migrate
from bursar.storage.sqlite.moved import refuse_moved

Result = TypeVar("Result")

DATABASE_NAME = "bursar.db"
LOCK_NAME = "bursar.lock"

TOGETHER_MAX = 16
"""Small transactions in one commit; most are a group of requests already (the desk's, the intake's)."""

QUESTIONS_MAX = 64
"""Questions of budgets in one commit: beyond, the sync is a small part already and the last waits longer."""

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


class SqliteTransaction:
    """`ingestion.ports.Transaction`, and the raw connection for this package's own use."""

    def __init__(self, store: "SqliteStore", connection: SqliteConnection) -> None:
        self._store = store
        self.connection = connection
        self.touched: set[Org] = set()

    @property
    def everywhere(self) -> SqliteConnection:
        """For global tables and for rows of many organisations."""
        return self.connection

    def unit(self, org: Org) -> SqlUnit:
        """Return the share of `org`."""
        self.touched.add(org)
        directory = self._store.directories.of(self.connection, org)
        return SqlUnit(self.connection, org, directory, SqliteLedger(self.connection, org))

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
            self._store.directories.forget(self.touched)
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

    commits_apart = False
    together_max = QUESTIONS_MAX

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
        self.directories = Directories(canonicalise, clock, limits)
        self._turn = asyncio.Lock()
        self._writer: SqliteConnection | None = None
        self._waiting: list[_Waiting] = []
        self._drain: asyncio.Task[None] | None = None
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    def open(self) -> None:
        """Take the data directory's lock, bring the schema up to date, open the writer.

        Raises:
            Unavailable: Another process writes this directory.
            Conflict: Its ledger was moved elsewhere.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file.acquire()
        try:
            refuse_moved(self.path.parent)
        except Conflict:
            self._lock_file.release()
            raise
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

    def reader(self) -> SqliteConnection:
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
        commit: Callable[[SqliteConnection], Awaitable[None]],
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

    async def _commit_aside(self, connection: SqliteConnection) -> None:
        """Commit on the committing thread; a cancelled caller still waits for its end."""
        committing = asyncio.get_running_loop().run_in_executor(self._committer, connection.execute, "COMMIT")
        try:
            await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            raise

    def _undo(self, connection: SqliteConnection, transaction: SqliteTransaction) -> None:
        """Roll back; a full disk may already have done so by itself."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self.directories.forget(transaction.touched)


async def _commit(connection: SqliteConnection) -> None:
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
