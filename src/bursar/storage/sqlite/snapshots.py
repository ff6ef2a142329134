"""A file's states as whoever proves it reads them: `storage.sql.verify_ports.Snapshots`.

path → open_snapshot → one state, never written, live or a copy → `storage.sql.verify`
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import Findings, VerifyReport, Violation
from bursar.storage.migrations import HEAD
from bursar.storage.sql.verify import Progress, verify
from bursar.storage.sql.verify_ports import Unsummable
from bursar.storage.sqlite.connection import BUSY_MS, SqliteConnection
from bursar.storage.sqlite.migrate import schema_version
from bursar.storage.sqlite.sums import SqliteSums

Result = TypeVar("Result")

CACHE_KIB = 64 * 1024
_TABLES = """SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c ON c.name = 'org'
    WHERE m.type = 'table' AND m.name <> 'organisation' ORDER BY m.name"""
_UNSUMMABLE = ("integer overflow", "malformed JSON")
"""What SQLite says of a sum beyond 64 bits and of rare units that are no JSON; it has no code for either."""


def verify_file(path: Path, progress: Progress | None = None) -> VerifyReport:
    """Check everything in the file at `path` and return what was found.

    The server may go on writing. The file, its directory and anything beside it stay as they are.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: It cannot be read here, for example because its write-ahead log cannot.
    """
    return verify(SqliteSnapshots(path), progress)


class SqliteSnapshot:
    """`storage.sql.verify_ports.Snapshot` over a connection of `open_snapshot`."""

    def __init__(self, connection: SqliteConnection) -> None:
        self.connection = connection
        self.sums = SqliteSums(connection)

    def renew(self) -> None:
        """Go on with the newest state; temporary tables stay."""
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def joining(self) -> AbstractContextManager[None]:
        """See the protocol: SQLite seeks each row by its key, which is as quick for many."""
        return nullcontext()

    @contextmanager
    def summing(self) -> Iterator[None]:
        """See the protocol."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if any(text in str(error) for text in _UNSUMMABLE):
                raise Unsummable(str(error)) from error
            raise

    def tables(self) -> list[str]:
        """Return every table with a column `org`, `organisation` apart."""
        return [name for (name,) in self.connection.execute(_TABLES)]

    def check_structure(self, findings: Findings) -> None:
        """Let SQLite check its own: pages, order of keys, indexes against their tables."""
        findings.checked("file", self.connection.execute("PRAGMA page_count").fetchone()[0])
        for (message,) in self.connection.execute("PRAGMA integrity_check(20)").fetchall():
            if message != "ok":
                findings.add(Violation("file", 0, "", "", "ok", message))


class SqliteSnapshots:
    """`storage.sql.verify_ports.Snapshots` of the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: SqliteConnection | None = None

    def read(self, work: Callable[[SqliteSnapshot], Result], findings: Findings) -> Result | None:
        """Return what `work` gives on a new snapshot; see the protocol."""
        try:
            with closing(open_snapshot(self._path)) as connection:
                self._connection = connection
                return work(SqliteSnapshot(connection))
        except sqlite3.DatabaseError as error:
            _note_damage(findings, self._path, error)
            return None
        finally:
            self._connection = None

    @property
    def is_reading(self) -> bool:
        """Whether a `read` is under way."""
        return self._connection is not None

    def interrupt(self) -> None:
        """End the statement that is under way in another thread."""
        connection = self._connection
        with suppress(sqlite3.ProgrammingError):  # it may have been closed in this very moment
            if connection is not None:
                connection.interrupt()


def _note_damage(findings: Findings, path: Path, error: sqlite3.DatabaseError) -> None:
    """Take an error of reading for what it is: a violation where the file is damaged.

    Raises:
        Unavailable: The file may be whole, but cannot be read at the moment.
    """
    # Texts that are no UTF-8 come without a code: damage as well.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_CORRUPT:
        raise Unavailable(f"{path} cannot be read to its end: {error}") from error
    findings.add(Violation("file", 0, path.name, "", "a readable file", str(error)))


def open_snapshot(path: Path) -> SqliteConnection:
    """Return a connection that reads one state of the file at `path` and cannot change it.

    A file without a write-ahead log is nobody's at this moment: it is opened as immutable, which
    needs no file beside it. With a log, SQLite needs its index too; where that cannot
    be made (a read-only directory) an empty log is passed over and a filled one is refused.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: Its write-ahead log cannot be read here.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is no file")
    log = path.with_name(f"{path.name}-wal")
    if not log.exists():
        return _opened(path, immutable=True)
    try:
        return _opened(path, immutable=False)
    except sqlite3.OperationalError as error:
        if log.stat().st_size:
            raise Unavailable(
                f"{log.name} holds commits that cannot be read here ({error}); copy both files to a "
                "directory that can be written"
            ) from error
    return _opened(path, immutable=True)


def _opened(path: Path, *, immutable: bool) -> SqliteConnection:
    uri = f"file:{quote(str(path.absolute()))}?{'immutable=1' if immutable else 'mode=ro'}"
    # A statement cache, since the same ones run for each range; the connection may be made in
    # one thread and interrupted from another.
    connection = sqlite3.connect(
        uri,
        uri=True,
        factory=SqliteConnection,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            f"cache_size = -{CACHE_KIB}",
            "temp_store = FILE",
            f"temp.cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        _check_schema(path, connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise InvalidInput(f"{path} is no ledger: {error}") from error
        raise
    except InvalidInput:
        connection.close()
        raise
    return connection


def _check_schema(path: Path, connection: SqliteConnection) -> None:
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    version = schema_version(connection)
    if version != HEAD:
        raise InvalidInput(
            f"{path} has schema {version or 'none'}, this release proves {HEAD}; "
            "open it once with this release's server, or use the release that wrote it"
        )
