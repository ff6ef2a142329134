"""The writing side of PostgreSQL: transactions of many processes, each durable before it returns.

    transact(work)  →  BEGIN, lock of the organisation  →  work  →  COMMIT

Whoever writes rows of an organisation holds its lock until the commit, so that its
transactions run one after the other in every process, as they do in one file (decision 0012).
The lock is taken with the first `unit`, in order of numbers where there are several, so
that nobody waits in a circle; `everywhere` is the lock before all of them. An organisation's
decisions are therefore the only ones that see and write its windows at that time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg

from bursar.core.ids import Org
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.postgres.errors import RETRIED, translated_errors
from bursar.storage.postgres.ledger import PostgresLedger
from bursar.storage.postgres.partitions import Months, is_without_month
from bursar.storage.postgres.pool import Pool
from bursar.storage.postgres.suspension import driven, in_worker, wait_for
from bursar.storage.postgres.unit import PostgresUnit
from bursar.storage.sql.budgets import orgs_due, orgs_with_budgets
from bursar.storage.sql.directories import Directories
from bursar.storage.sql.ports import EVERY_ORG

Result = TypeVar("Result")

LOCK_CLASS = 0x627273
"""The first number of our advisory locks; the second is the organisation's, 0 for `everywhere`."""


class PostgresTransaction:
    """`storage.sql.ports.Transaction`, and those of `ingestion` and `enforcement`.

    Begins with its first statement. Used beneath `suspension.in_worker`.
    """

    def __init__(
        self, own: asyncpg.Connection, directories: Directories, months: Months, prologue: str
    ) -> None:
        self._own = own
        self._directories = directories
        self._months = months
        self._prologue = prologue
        self._bound: Org | None = None
        self._units: dict[Org, PostgresUnit] = {}
        self._locked: list[Org] = []

    @property
    def touched(self) -> list[Org]:
        """The organisations whose names may have been made in it."""
        return list(self._units)

    @property
    def everywhere(self) -> PostgresConnection:
        """For global tables and for rows of many organisations, one such transaction at a time."""
        self._lock(EVERY_ORG)
        return PostgresConnection(self._own, lambda: self._bind(EVERY_ORG))

    def unit(self, org: Org) -> PostgresUnit:
        """Return the share of `org`, locked until the end."""
        unit = self._units.get(org)
        if unit is None:
            self._lock(org)
            connection = PostgresConnection(self._own, lambda: self._bind(org))
            directory = self._directories.of(connection, org)
            unit = self._units[org] = PostgresUnit(
                connection, org, directory, PostgresLedger(connection, org, self._months)
            )
        return unit

    async def orgs_due(self, at: int) -> list[Org]:
        """Return the organisations with a hold or a raise that is over at `at`."""
        return orgs_due(self._looking(), at)

    async def orgs_with_budgets(self) -> list[Org]:
        """Return the organisations that have budgets, or windows that wind down."""
        return orgs_with_budgets(self._looking())

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo the inside when it raises, caches included."""
        await self._own.execute("SAVEPOINT part")
        try:
            with translated_errors():
                yield
        except BaseException:
            if not self._own.is_closed():
                await self._own.execute("ROLLBACK TO part; RELEASE part")
            self._directories.forget(self.touched)
            raise
        await self._own.execute("RELEASE part")

    def _looking(self) -> PostgresConnection:
        """Return a connection that sees every organisation and locks none."""
        if self._bound is None:
            wait_for(self._own.execute(f"{self._prologue}; {_binding(EVERY_ORG)}"))
            self._bound = EVERY_ORG
        return PostgresConnection(self._own, lambda: self._bind(EVERY_ORG))

    def _lock(self, org: Org) -> None:
        if org in self._locked:
            return
        if self._locked and self._locked[-1] > org:
            raise RuntimeError(f"organisation {org} was asked for after {self._locked[-1]}: locks go upwards")
        begin = f"{self._prologue}; " if self._bound is None else ""
        lock = f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, {int(org)})"
        wait_for(self._own.execute(f"{begin}{_binding(org)}; {lock}"))
        self._bound = org
        self._locked.append(org)

    def _bind(self, org: Org) -> None:
        """Tell row-level security whose turn it is."""
        if self._bound != org:
            wait_for(self._own.execute(_binding(org)))
            self._bound = org


class PostgresStore:
    """`storage.sql.ports.Store` over a pool."""

    def __init__(self, pool: Pool, directories: Directories, months: Months) -> None:
        self._pool = pool
        self._directories = directories
        self._months = months
        self._large = asyncio.Semaphore(max(1, pool.size // 2))

    async def transact(
        self, work: Callable[[PostgresTransaction], Awaitable[Result]], *, is_large: bool = False
    ) -> Result:
        """Run `work` and commit; on any error undo it and raise that, translated.

        What the database undid for a deadlock or a serialisation failure is tried once more.
        `is_large` ones leave connections for the small.
        """
        if is_large:
            async with self._large:
                return await self._twice(work)
        return await self._twice(work)

    async def _twice(self, work: Callable[[PostgresTransaction], Awaitable[Result]]) -> Result:
        with translated_errors():
            try:
                return await self._once(work)
            except RETRIED:
                return await self._once(work)
            except asyncpg.CheckViolationError as error:
                if not is_without_month(error):
                    raise
                self._months.forget()
                return await self._once(work)

    async def _once(self, work: Callable[[PostgresTransaction], Awaitable[Result]]) -> Result:
        async with self._pool.connection() as own:
            transaction = PostgresTransaction(own, self._directories, self._months, self._pool.begin)
            try:
                coroutine = cast("Coroutine[Any, Any, Result]", work(transaction))
                result = await in_worker(lambda: driven(coroutine))
                await own.execute("COMMIT")
            except BaseException:
                self._directories.forget(transaction.touched)
                await self._pool.undo(own)
                raise
        return result


def _binding(org: Org) -> str:
    return f"SET LOCAL bursar.org = '{int(org)}'"
