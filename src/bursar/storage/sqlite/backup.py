"""Copy a SQLite ledger as it is, page by page, and bring a copy back.

    the live file  →  one snapshot, a few pages at a time  →  a file of its own, without a log beside it

The writer goes on meanwhile: a reader's snapshot does not lock it, its log only grows until
the copy is done. Not here: copies to and from another engine (`sqlite.copies`).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from bursar.core.errors import InvalidInput, Unavailable
from bursar.storage.migrations import HEAD
from bursar.storage.sql.tables import TableProof
from bursar.storage.sqlite.connection import BUSY_MS, open_writer
from bursar.storage.sqlite.copies import figures_of, tables_of
from bursar.storage.sqlite.migrate import migrate, schema_version

OnProgress = Callable[[int, int], None]

PAGES = 2_048
"""Pages of one step, 16 MiB: often enough for a progress bar, seldom enough to cost nothing."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def snapshot(
    path: Path, *, is_locked: bool = False, any_schema: bool = False
) -> Iterator[sqlite3.Connection]:
    """Give a connection that reads one state of the ledger at `path`.

    Args:
        path: Its file; a server may be writing it.
        is_locked: Nobody writes it until the end: it is read without touching anything beside it.
        any_schema: Take a ledger of an older or newer release as well.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: It cannot be read at the moment.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no ledger at {path}")
    has_log = path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if is_locked and not has_log else "mode=ro"
    address = f"file:{quote(str(path.absolute()))}?{mode}"
    with closing(
        sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    ) as connection:
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
            version = schema_version(connection)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{path} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{path} is no ledger: {error}") from error
        if version is None:
            raise InvalidInput(f"{path} is no ledger")
        if version != HEAD and not any_schema:
            raise InvalidInput(
                f"{path} has schema {version}, this release has {HEAD}; "
                "open it once with this release's server, or use the release that wrote it"
            )
        with _damage_told(path):
            yield connection


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say what a file is that cannot be read to its end."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        raise InvalidInput(
            f"{path} is damaged ({error}); `bursar ledger verify` tells more, docs/ledger.md what to do"
        ) from error


def copy_pages(source: sqlite3.Connection, target: Path, on_progress: OnProgress | None = None) -> None:
    """Copy what `source` sees into the file `target`.

    Args:
        source: A connection within a transaction, so that each step sees the same state.
        target: A file without content.
        on_progress: Called with how many pages are done and how many there are.
    """

    def after_step(_status: int, remaining: int, total: int) -> None:
        if on_progress is not None:
            on_progress(total - remaining, total)

    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        source.backup(connection, pages=PAGES, progress=after_step)
        # A log beside the file could be left behind when it is carried away.
        connection.execute("PRAGMA journal_mode = DELETE")


def forget_signing_keys(path: Path) -> None:
    """Take the secrets that sign sessions out of a copy, so that no page holds them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM signing_key")


def sums(path: Path) -> list[TableProof]:
    """Return how many rows each table of a ledger file has, and what its numbers add up to."""
    with _damage_told(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = tables_of(connection)
        found = [(table, figures_of(connection, table, with_content=False)) for table in tables]
    return [TableProof(table, figures, figures) for table, figures in found]


def origin_of(path: Path) -> str:
    """Return a text that is another one as soon as the file, or its log, is another one."""
    parts = []
    for name in (path.name, f"{path.name}-wal"):
        with suppress(FileNotFoundError):
            state = path.with_name(name).stat()
            if state.st_size:
                parts.append(f"{name} {state.st_size} {state.st_mtime_ns}")
    return " ".join([str(path.resolve().parent), *parts])


def bring_forward(path: Path) -> None:
    """Bring a copy to this release's schema, and leave no log beside it.

    Raises:
        InvalidInput: A newer release wrote it.
    """
    with closing(open_writer(path)) as connection:
        migrate(path, connection)
        connection.execute("PRAGMA journal_mode = DELETE")
