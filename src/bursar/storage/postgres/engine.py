"""An open PostgreSQL database as `storage.sql.engine.Engine`: any number of processes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import asyncpg

from bursar.core.errors import Unavailable
from bursar.ledger.ports import LedgerAuditor
from bursar.storage.postgres.directory import PostgresDirectory
from bursar.storage.postgres.errors import translated_errors
from bursar.storage.postgres.fitness import Fit, made_fit
from bursar.storage.postgres.leadership import Leadership
from bursar.storage.postgres.ledger import STAGE
from bursar.storage.postgres.marks import Marks
from bursar.storage.postgres.partitions import Months
from bursar.storage.postgres.pool import REPORTS, Pool
from bursar.storage.postgres.pulse import Pulse
from bursar.storage.postgres.readers import PostgresReaders
from bursar.storage.postgres.snapshots import PostgresSnapshots
from bursar.storage.postgres.store import PostgresStore
from bursar.storage.sql.directories import Directories
from bursar.storage.sql.directory import DEFAULT_LIMITS, Canonicalise, Limits
from bursar.storage.sql.ports import EVERY_ORG
from bursar.storage.sql.verify_slices import SqlAuditor

READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
ANSWER_S = 3.0


class PostgresEngine:
    """`storage.sql.engine.Engine` over the database at `address`.

    Args:
        address: `postgresql://…`.
        clock: Microseconds UTC.
        canonicalise: Names a new model's canonical provider and model.
        connections: Of this process, at most, for writes; reads have half as many beside them.
        is_pooled: Whether a pooler in transaction mode stands between.
        limits: How many names of each kind an organisation may have.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Callable[[], int],
        canonicalise: Canonicalise,
        connections: int = 8,
        is_pooled: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._address, self._is_pooled = address, is_pooled
        pulse = Pulse(address)
        self._work = Pool(address, size=connections, is_pooled=is_pooled, prepared=STAGE, pulse=pulse)
        few = max(2, connections // 2)
        self._reports = Pool(
            address, size=few, is_pooled=is_pooled, begin=READ_ONLY, limits=REPORTS, pulse=pulse
        )
        self._short = Pool(address, size=few, is_pooled=is_pooled, begin=READ_ONLY, pulse=pulse)
        self.months = Months(address)
        self.store = PostgresStore(
            self._work, Directories(canonicalise, clock, limits, PostgresDirectory), self.months
        )
        self.readers = PostgresReaders(self._reports, self._short)
        self.changes = Marks(self.readers)
        self.version = "postgresql"
        self.remarks: tuple[str, ...] = ()
        self._clock = clock
        self._last_decided_at = 0
        self._leadership = Leadership(address)

    def open(self) -> None:
        """Look whether the database will do; make its schema if it has none."""
        with ThreadPoolExecutor(1) as thread:  # the caller's loop may be running
            fit = thread.submit(lambda: asyncio.run(self._made_fit())).result()
        self.version = f"postgresql {fit.version}"
        self.remarks = fit.remarks
        self._last_decided_at = fit.last_decided_at

    async def _made_fit(self) -> Fit:
        return await made_fit(self._address, self._clock(), is_pooled=self._is_pooled)

    async def close(self) -> None:
        """Close every connection."""
        self._leadership.end()
        for pool in (self._work, self._reports, self._short):
            await pool.close()

    async def answers(self) -> bool:
        """Whether it can be read at this moment."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.readers.run_short(EVERY_ORG, lambda one: one.execute("SELECT 1").fetchone())
        except (Unavailable, TimeoutError, asyncpg.PostgresError):
            return False
        return True

    def last_decided_at(self) -> int:
        """Return what it was at the start; a transaction that decides reads it anew."""
        return self._last_decided_at

    async def make_room(self) -> None:
        """Make the partitions of the months to come."""
        with translated_errors():
            await self.months.make_ahead(self._clock())

    def hear_decisions(self, hear: Callable[[int], None]) -> None:
        """See the protocol."""
        self.store.hear = hear

    def snapshots(self) -> PostgresSnapshots:
        """Return what proves the whole database."""
        return PostgresSnapshots(self._address)

    def auditor(self, clock: Callable[[], int]) -> LedgerAuditor:
        """Return what proves the database beside its work."""
        snapshots = PostgresSnapshots(self._address, is_background=True)
        return SqlAuditor(snapshots, self.store, clock)

    @asynccontextmanager
    async def leading(self, job: str) -> AsyncIterator[bool]:
        """Whoever runs a job first goes on to, until it ends; the others then take its place."""
        yield await self._leadership.takes(job)
