"""Where a ledger can lie, seen by what copies it: a file in a data directory, or a database.

    FilePlace(data_dir)        read by pages or rows, filled as a file that appears when it is whole
    DatabasePlace(address)     read on one snapshot, filled chunk by chunk; opened by nobody before its end

Not here: which of the two somebody means (`engines`), the order of a move or a restore (`moving`).
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Protocol

from bursar.core.addresses import without_password
from bursar.core.errors import Conflict, InvalidInput, Unavailable
from bursar.storage.sql.copying import OnProgress, Source, Target, copy, prove
from bursar.storage.sql.tables import TableProof
from bursar.storage.sqlite import backup
from bursar.storage.sqlite.connection import FileLock
from bursar.storage.sqlite.copies import SqliteSource, SqliteTarget
from bursar.storage.sqlite.files import PARTIAL, appearing
from bursar.storage.sqlite.moved import MOVED_NAME, note_moved
from bursar.storage.sqlite.snapshots import verify_file
from bursar.storage.sqlite.store import DATABASE_NAME, LOCK_NAME

Stages = Callable[[str], AbstractContextManager[OnProgress | None]]
"""Called with what begins, such as `copying`; gives what hears how far it has come."""


class Place(Protocol):
    """Where a ledger lies, or shall lie."""

    @property
    def name(self) -> str:
        """How a person may be told of it: without a password."""
        ...

    def origin(self) -> str:
        """Return a text that is another one for another ledger, or after a change of this one."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Source]:
        """Give the ledger while nobody writes it.

        Raises:
            InvalidInput: There is none, or it is not of this release's schema.
            Conflict, Unavailable: A server is at work on it.
        """
        ...

    def filling(self, origin: str) -> AbstractAsyncContextManager[Target]:
        """Give an empty ledger to fill; it may be used once the inside has ended without an error.

        Raises:
            Conflict: There is a ledger already.
        """
        ...

    async def back_up(self, target: Path, stages: Stages) -> list[TableProof]:
        """Copy one state of the ledger, which may be in use, into the new file `target`."""
        ...

    async def restore(self, file: Path, stages: Stages) -> list[TableProof]:
        """Fill the place from the ledger file `file`, and prove it.

        Raises:
            Conflict: There is a ledger already.
            InvalidInput: The file is no ledger, or it is not exact.
        """
        ...

    def note_moved(self, sentence: str) -> None:
        """Keep servers from going on here by mistake, as far as the place allows."""
        ...


class FilePlace:
    """`Place` in a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / DATABASE_NAME

    @property
    def name(self) -> str:
        """`sqlite:` and the directory."""
        return f"sqlite:{self._data_dir}"

    def origin(self) -> str:
        """Return where the file is and when it was last written."""
        return backup.origin_of(self._path)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Source]:
        """Give the file under its lock."""
        if not self._path.is_file():
            raise InvalidInput(f"there is no ledger in {self._data_dir}")
        with self._locked(), backup.snapshot(self._path, is_locked=True) as connection:
            yield SqliteSource(connection)

    @asynccontextmanager
    async def filling(self, origin: str) -> AsyncIterator[Target]:  # noqa: ARG002 - begun anew each time
        """Give a new file, which gets its name at the end."""
        with self._appearing() as draft:
            target = SqliteTarget(draft)
            try:
                yield target
            finally:
                target.close()

    async def back_up(self, target: Path, stages: Stages) -> list[TableProof]:
        """Copy page by page; an older release's ledger too, since it may be about to be brought forward."""
        with stages("copying") as on_progress, backup.snapshot(self._path, any_schema=True) as connection:
            backup.copy_pages(connection, target, on_progress)
        return backup.sums(target)

    async def restore(self, file: Path, stages: Stages) -> list[TableProof]:
        """Copy page by page, bring it to this release's schema, prove it, and only then give it its name."""
        with self._appearing() as draft:
            with stages("copying") as on_progress, backup.snapshot(file, any_schema=True) as connection:
                backup.copy_pages(connection, draft, on_progress)
            backup.bring_forward(draft)
            prove_file(draft, file, stages)
            return backup.sums(draft)

    def note_moved(self, sentence: str) -> None:
        """Leave the note that servers respect."""
        note_moved(self._data_dir, sentence)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self._data_dir / LOCK_NAME)
        try:
            lock.acquire()
        except Unavailable:
            raise Unavailable(
                f"a server, or another command, works on {self._data_dir}; stop it, then run this again"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _appearing(self) -> Iterator[Path]:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal", MOVED_NAME):
                if (self._data_dir / name).exists():
                    raise Conflict(
                        f"{self._data_dir} is not empty: {name} lies in it; name another directory"
                    )
            for left in self._data_dir.glob(f".{DATABASE_NAME}.*{PARTIAL}*"):
                left.unlink()  # of a process that was killed: whoever writes one holds the lock
            with appearing(self._path) as draft:
                yield draft


class DatabasePlace:
    """`Place` in a PostgreSQL database."""

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def name(self) -> str:
        """The address, its password apart."""
        return without_password(self._address)

    def origin(self) -> str:
        """Return the address."""
        return self.name

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Source]:
        """Give one snapshot, under a lock that lets nobody write."""
        from bursar.storage.postgres import copies  # noqa: PLC0415 - a file needs no driver

        async with copies.reading(self._address, alone=True) as source:
            yield source

    @asynccontextmanager
    async def filling(self, origin: str) -> AsyncIterator[Target]:
        """Give the database, which servers refuse to open until the end."""
        from bursar.storage.postgres import copies  # noqa: PLC0415 - a file needs no driver

        async with copies.filling(self._address, origin) as target:
            yield target

    async def back_up(self, target: Path, stages: Stages) -> list[TableProof]:
        """Copy row by row, from one snapshot, and compare within it."""
        from bursar.storage.postgres import copies  # noqa: PLC0415 - a file needs no driver

        async with copies.reading(self._address) as source:
            filled = SqliteTarget(target)
            try:
                return await copied(source, filled, stages)
            finally:
                filled.close()

    async def restore(self, file: Path, stages: Stages) -> list[TableProof]:
        """Prove the file, copy it row by row, and compare."""
        with backup.snapshot(file) as connection:
            prove_file(file, file, stages)
            async with self.filling(f"backup {backup.origin_of(file)}") as target:
                proofs = await copied(SqliteSource(connection), target, stages)
                await target.snapshots()
                return proofs

    def note_moved(self, sentence: str) -> None:
        """Do nothing: a database is not marked, its owner takes it away."""


async def copied(source: Source, target: Target, stages: Stages) -> list[TableProof]:
    """Copy, look at every row on both sides, and return what was seen.

    Raises:
        Conflict: The two sides differ.
    """
    with stages("copying") as on_progress:
        tables = await copy(source, target, on_progress)
    with stages("comparing") as on_progress:
        proofs = await prove(source, target, tables, on_progress)
    if odd := [proof.table.name for proof in proofs if proof.differing]:
        raise Conflict(f"the copy is not the same as its source ({', '.join(odd)}); it is not to be used")
    return proofs


def prove_file(file: Path, shown: Path, stages: Stages) -> None:
    """Prove a whole ledger file, known to people as `shown`.

    Raises:
        InvalidInput: It is not exact.
    """
    with stages("verifying") as on_progress:
        report = verify_file(file, on_progress)
    if not report.ok:
        raise InvalidInput(
            f"{shown} is not exact: {report.violations_count} things do not hold; nothing was restored. "
            f"`bursar ledger verify --file {shown}` shows them"
        )
