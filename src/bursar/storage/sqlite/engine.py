"""The open file as `storage.sql.engine.Engine`: one process, one writer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bursar.ledger.ports import LedgerAuditor
from bursar.storage.sql.directory import DEFAULT_LIMITS, Canonicalise, Limits
from bursar.storage.sql.marks import Quiet
from bursar.storage.sql.verify_slices import SqlAuditor
from bursar.storage.sqlite.connection import ENGINE, SqliteConnection, answers
from bursar.storage.sqlite.readers import SqliteReaders
from bursar.storage.sqlite.snapshots import SqliteSnapshots
from bursar.storage.sqlite.store import SqliteStore


class SqliteEngine:
    """`storage.sql.engine.Engine` over the file in `data_dir`."""

    version = ENGINE
    remarks: tuple[str, ...] = ()

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Callable[[], int],
        canonicalise: Canonicalise,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.store = SqliteStore(data_dir, clock=clock, canonicalise=canonicalise, limits=limits)
        self.readers = SqliteReaders(self.store.reader)
        self.changes = Quiet()
        self._looking: SqliteConnection | None = None

    def open(self) -> None:
        """Take the data directory's lock and bring the schema up to date."""
        self.store.open()
        self._looking = self.store.reader()

    async def close(self) -> None:
        """Close the file and give the lock back."""
        self.readers.close()
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        self.store.close()

    async def answers(self) -> bool:
        """Whether the file can be read at this moment."""
        return self._looking is not None and answers(self._looking)

    def last_decided_at(self) -> int:
        """Return the latest time by which budgets were decided."""
        return self.store.last_decided_at()

    def hear_decisions(self, hear: Callable[[int], None]) -> None:
        """Nobody else decides."""

    async def make_room(self) -> None:
        """Do nothing: a file grows by itself."""

    def snapshots(self) -> SqliteSnapshots:
        """Return what proves the whole file."""
        return SqliteSnapshots(self.store.path)

    def auditor(self, clock: Callable[[], int]) -> LedgerAuditor:
        """Return what proves the file beside its work."""
        return SqlAuditor(self.snapshots(), self.store, clock)

    @asynccontextmanager
    async def leading(self, job: str) -> AsyncIterator[bool]:  # noqa: ARG002 - every job is this process's
        """Nobody else has the file."""
        yield True
