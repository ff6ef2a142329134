"""The writing side of PostgreSQL: transactions of many processes, each durable before it returns.

    transact(work)  →  turn, connection, BEGIN, lock of the organisation  →  work  →  COMMIT

Whoever writes rows of an organisation holds its lock until the commit, so that its
transactions run one after the other in every process, as they do in one file (decision 0012).
The lock is taken with the first `unit`, in order of numbers where there are several, so
that nobody waits in a circle; `everywhere` is the lock before all of them. An organisation's
decisions are therefore the only ones that see and write its windows at that time.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg

from bursar.core.ids import Org
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.postgres.errors import RETRIED, is_ended, translated_errors
from bursar.storage.postgres.ledger import PostgresLedger
from bursar.storage.postgres.partitions import Months, is_without_month
from bursar.storage.postgres.pool import WAIT_S, Pool
from bursar.storage.postgres.suspension import driven, in_worker, wait_for
from bursar.storage.postgres.turns import Turns
from bursar.storage.postgres.unit import PostgresUnit
from bursar.storage.sql.budgets import orgs_due, orgs_with_budgets
from bursar.storage.sql.directories import Directories
from bursar.storage.sql.ports import EVERY_ORG

Result = TypeVar("Result")

LOCK_CLASS = 0x627273
"""The first number of our advisory locks; the second is the organisation's, 0 for `everywhere`."""


QUESTIONS_MAX = 32
"""Questions of budgets in one commit: beyond, more of them wait for a longer transaction."""


class _Session:
    """A transaction's turn and connection, both taken when first needed."""

    def __init__(self, pool: Pool, turns: Turns, *, is_large: bool) -> None:
        self.own: asyncpg.Connection | None = None
        self._has_stage = bool(pool.prepared)
        self._pool = pool
        self._turns = turns
        self._is_large = is_large
        self._turn: Org | None = None
        self._asked_at = time.monotonic()

    async def run(self, statements: str, org: Org | None) -> asyncpg.Connection:
        """Run statements without rows; the first ones begin the transaction, in the turn of `org`."""
        if self.own is not None:
            await self.own.execute(statements)
            return self.own
        if org is not None:
            await self._turns.take(org, is_large=self._is_large, check=self._check)
            self._turn = org
        begin = f"{self._pool.begin}; {statements}"
        for tries_left in reversed(range(self._pool.size + 1)):
            self.own = await self._pool.take()
            try:
                await self.own.execute(begin)
            except asyncpg.LockNotAvailableError:
                if org is not None:
                    self._turns.give_up(org)
                raise
            except Exception as error:
                if not (tries_left and is_ended(error)):
                    raise
                # Nothing of this transaction was done: mostly it was ended while it lay idle.
                self._pool.cut(self.own)
                self.own = None
            else:
                break
        assert self.own is not None  # noqa: S101 - the last try raises
        return self.own

    def take_stage(self) -> bool:
        """Whether the connection's own table is to be had: once, as it is emptied by the commit."""
        has_stage, self._has_stage = self._has_stage, False
        return has_stage

    async def commit(self) -> None:
        """Make it durable. When this raises it may be so or not, unless the database said no."""
        if self.own is not None and await self.own.execute("COMMIT") != "COMMIT":
            # PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK, not with an error.
            raise RuntimeError("a statement failed and its transaction went on; nothing of it was kept")

    async def undo(self, error: BaseException) -> None:
        """Undo it."""
        if self.own is not None:
            await self._pool.undo(self.own, error)

    def end(self) -> None:
        """Give back the connection and the turn."""
        if self.own is not None:
            self._pool.give_back(self.own)
            self.own = None
        if self._turn is not None:
            self._turns.give_back(self._turn)
            self._turn = None

    def _check(self) -> None:
        self._pool.check_lost_since(self._asked_at)


class PostgresTransaction:
    """`storage.sql.ports.Transaction`, and those of `ingestion` and `enforcement`.

    Begins with its first statement. Used beneath `suspension.in_worker`.
    """

    def __init__(
        self, session: _Session, directories: Directories, months: Months, hear: Callable[[int], None]
    ) -> None:
        self._session = session
        self._directories = directories
        self._months = months
        self._hear = hear
        self._bound: Org | None = None
        self._units: dict[Org, PostgresUnit] = {}
        self._locked: list[Org] = []

    @property
    def touched(self) -> list[Org]:
        """The organisations whose names may have been made in it."""
        return self._locked

    @property
    def everywhere(self) -> PostgresConnection:
        """For global tables and for rows of many organisations, one such transaction at a time."""
        return self._connection(EVERY_ORG, self._lock(EVERY_ORG))

    def keep_names(self) -> None:
        """Let others find the names that it has made: it is committed."""
        for unit in self._units.values():
            unit.directory.committed()

    def unit(self, org: Org) -> PostgresUnit:
        """Return the share of `org`, locked until the end."""
        unit = self._units.get(org)
        if unit is None:
            connection = self._connection(org, self._lock(org))
            directory = self._directories.of(connection, org, only_committed=True)
            ledger = PostgresLedger(connection, org, self._months, self._session.take_stage)
            unit = self._units[org] = PostgresUnit(connection, org, directory, ledger, self._hear)
        return unit

    async def orgs_due(self, at: int) -> list[Org]:
        """Return the organisations with a hold or a raise that is over at `at`."""
        return orgs_due(self._looking(), at)

    async def orgs_with_budgets(self) -> list[Org]:
        """Return the organisations that have budgets, or windows that wind down."""
        return orgs_with_budgets(self._looking())

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo the inside when it raises, caches included. Locks that were taken inside are given up too."""
        own = await self._session.run("SAVEPOINT part", None)
        before = self._bound, list(self._locked)
        try:
            with translated_errors():
                yield
        except BaseException:
            self._directories.forget(self.touched)
            self._units = {}
            self._bound, self._locked = before
            if not own.is_closed() and own.is_in_transaction():
                await own.execute("ROLLBACK TO part; RELEASE part")
            raise
        await own.execute("RELEASE part")

    def _looking(self) -> PostgresConnection:
        """Return a connection that sees every organisation and locks none."""
        own = self._session.own
        if own is None:
            own = wait_for(self._session.run(_binding(EVERY_ORG), None))
            self._bound = EVERY_ORG
        return self._connection(EVERY_ORG, own)

    def _lock(self, org: Org) -> asyncpg.Connection:
        own = self._session.own
        if own is not None and org in self._locked:
            return own
        if self._locked and self._locked[-1] > org:
            raise RuntimeError(f"organisation {org} was asked for after {self._locked[-1]}: locks go upwards")
        lock = f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, {int(org)})"
        own = wait_for(self._session.run(f"{_binding(org)}; {lock}", org))
        self._bound = org
        self._locked.append(org)
        return own

    def _connection(self, org: Org, own: asyncpg.Connection) -> PostgresConnection:
        return PostgresConnection(own, lambda: self._bind(org, own))

    def _bind(self, org: Org, own: asyncpg.Connection) -> None:
        """Tell row-level security whose turn it is."""
        if self._bound != org:
            wait_for(own.execute(_binding(org)))
            self._bound = org


class PostgresStore:
    """`storage.sql.ports.Store` over a pool.

    Attributes:
        hear: Told by which time others have decided, within each transaction that decides.
    """

    commits_apart = True
    together_max = QUESTIONS_MAX

    def __init__(self, pool: Pool, directories: Directories, months: Months) -> None:
        self._pool = pool
        self._directories = directories
        self._months = months
        self._turns = Turns(WAIT_S)
        self.hear: Callable[[int], None] = lambda _last: None

    async def transact(
        self, work: Callable[[PostgresTransaction], Awaitable[Result]], *, is_large: bool = False
    ) -> Result:
        """Run `work` and commit; on any error undo it and raise that, translated.

        What the database undid for a deadlock or a serialisation failure is tried once more:
        `work` runs a second time. `is_large` ones leave connections for the small.
        """
        with translated_errors():
            async with self._pool.room_for(is_large=is_large):
                try:
                    return await self._once(work, is_large=is_large)
                except RETRIED:
                    return await self._once(work, is_large=is_large)
                except asyncpg.CheckViolationError as error:
                    if not is_without_month(error):
                        raise
                    self._months.forget()
                    return await self._once(work, is_large=is_large)

    async def _once(
        self, work: Callable[[PostgresTransaction], Awaitable[Result]], *, is_large: bool
    ) -> Result:
        session = _Session(self._pool, self._turns, is_large=is_large)
        transaction = PostgresTransaction(session, self._directories, self._months, self.hear)
        try:
            # `work` itself may take a lock before it gives its coroutine.
            result = await in_worker(lambda: driven(cast("Coroutine[Any, Any, Result]", work(transaction))))
            await session.commit()
        except BaseException as error:
            self._directories.forget(transaction.touched)
            await session.undo(error)
            raise
        else:
            transaction.keep_names()
        finally:
            session.end()
        return result


def _binding(org: Org) -> str:
    return f"SET LOCAL bursar.org = '{int(org)}'"
