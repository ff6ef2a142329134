"""Open the SQLite file: one writer, any number of readers, and the lock that keeps it so.

The writer commits *and* checkpoints (a race in SQLite before 3.51.3 needs both on one
connection); readers are `query_only` and never checkpoint. `synchronous=FULL` syncs the
write-ahead log at each commit: nothing is acknowledged before that. `cache_kib` 64 MiB and
a checkpoint near 80 MB were the best of the sizes measured; larger ones gave nothing.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bursar.core.errors import AmountOverflow, Unavailable
from bursar.ledger import histogram
from bursar.storage.sql.ports import Cell, Parameters

_decode = msgspec.json.Decoder(list[tuple[Cell, ...]]).decode

ENGINE = f"sqlite {sqlite3.sqlite_version}"
PAGE_BYTES = 8192
CACHE_KIB = 64 * 1024
CHECKPOINT_PAGES = 10_000
READER_CACHE_KIB = 32 * 1024
BUSY_MS = 5_000

_OVERFLOW = "integer overflow"
"""SQLite's text for a sum beyond 64 bits, which has no code of its own."""


class SqliteDialect:
    """`storage.sql.dialect.Dialect`."""

    name = "sqlite"
    transaction_number = "0"

    def numbers(self, parameter: str) -> str:
        """Return a SELECT of the integers in a JSON array, one a row, its column `value`."""
        return f"SELECT value FROM json_each({parameter})"

    def hexadecimal(self, column: str) -> str:
        """Return lower-case hexadecimal digits of a column of bytes."""
        return f"lower(hex({column}))"

    def member(self, json_text: str, name: str) -> str:
        """Return member `name` of a column of JSON text as text, NULL where there is none."""
        return f"({json_text} ->> '{name}')"

    def item(self, json_text: str, place: int) -> str:
        """Return item `place` (from 0) of a column with a JSON list as text, NULL where there is none."""
        return f"({json_text} ->> {place})"

    def tuples(self, parameter: str, *columns: str) -> str:
        """Return a SELECT of lists of integers in a JSON array, one a row, its columns named."""
        items = ", ".join(f"value ->> {place} AS {name}" for place, name in enumerate(columns))
        return f"SELECT {items} FROM json_each({parameter})"

    def contains(self, column: str, parameter: str) -> str:
        """Return a test whether a column of bytes or text has a part that equals `parameter`."""
        return f"instr({column}, {parameter}) > 0"

    def sought(self, outer: str, table: str, condition: str, *, is_outer: bool = False) -> str:
        """Return a FROM clause: for each row of `outer` its rows of `table`, found by an index."""
        # A CROSS JOIN is never turned round here.
        return f"{outer} {'LEFT' if is_outer else 'CROSS'} JOIN {table} AS r ON {condition}"


DIALECT = SqliteDialect()


class SqliteConnection(sqlite3.Connection):
    """`storage.sql.ports.Connection`: the standard library's, with what else a port asks for."""

    dialect = DIALECT

    def stream(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a SELECT one by one."""
        return self.execute(sql, parameters)

    def listed(self, sql: str, columns: Iterable[str], parameters: Parameters) -> list[tuple[Cell, ...]]:
        """Return `columns` of every row of `sql`, fetched as one row of JSON."""
        listed = f"SELECT json_group_array(json_array({', '.join(columns)})) FROM ({sql}) AS r"
        try:
            return _decode(self.execute(listed, parameters).fetchone()[0])
        except sqlite3.OperationalError as error:
            if _OVERFLOW not in str(error):
                raise
            raise AmountOverflow("a sum would leave 64 bits") from error


def open_writer(path: Path) -> SqliteConnection:
    """Return the one connection that writes `path`, made if it does not exist (mode 0600)."""
    if not path.exists():
        path.touch(mode=0o600)
    _bind_quickly()
    connection = sqlite3.connect(
        path, factory=SqliteConnection, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in (
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_MS}",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("merge_durations", 2, histogram.merge, deterministic=True)
    return connection


def _bind_quickly() -> None:
    """Register adapters that change nothing for `bytes` and `None`.

    The standard library asks every value that is not exactly a number or text for an
    adapter, and for these two it fails at length, by an exception made and dropped, before
    it binds them as they are. Told what to do it is done at once: a microsecond an event.
    """
    sqlite3.register_adapter(bytes, bytes)
    # An empty dictionary's `get` returns None for None, without a Python frame.
    sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type] # its other overloads


def open_reader(path: Path) -> SqliteConnection:
    """Return a connection that only reads: a snapshot for each transaction it begins."""
    connection = sqlite3.connect(
        f"file:{path}?mode=ro",
        uri=True,
        factory=SqliteConnection,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    for pragma in (
        "query_only = ON",
        f"busy_timeout = {BUSY_MS}",
        f"cache_size = -{READER_CACHE_KIB}",
        "wal_autocheckpoint = 0",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.row_factory = sqlite3.Row
    connection.create_function("merge_durations", 2, histogram.merge, deterministic=True)
    # The stub knows aggregates of integers only; SQLite takes any value.
    connection.create_aggregate("sum_durations", 1, _SumDurations)  # type: ignore[arg-type]
    return connection


def answers(reader: sqlite3.Connection) -> bool:
    """Whether the file can be read at this moment."""
    try:
        return reader.execute("SELECT max(org) FROM organisation").fetchone() is not None
    except sqlite3.Error:
        return False


class _SumDurations:
    """SQL aggregate: the packed sum of packed histograms."""

    def __init__(self) -> None:
        self._total = histogram.EMPTY

    def step(self, packed: bytes) -> None:
        """Add one row's histogram."""
        self._total = histogram.merge(self._total, packed)

    def finalize(self) -> bytes:
        """Return the sum."""
        return self._total


class FileLock:
    """An operating-system lock on the data directory: one process writes it at a time.

    The kernel drops it when the process ends, however it ends, so a crash leaves nothing
    to clean up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            Unavailable: Another process holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Unavailable(
                f"{self._path.parent} is in use by another bursar process; stop it or speak to it"
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
