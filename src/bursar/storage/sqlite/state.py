"""What can be said of a ledger file without opening it for writing: for `bursar doctor`."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bursar.storage.migrations import HEAD
from bursar.storage.sqlite.connection import open_reader
from bursar.storage.sqlite.migrate import schema_version


class FileState(NamedTuple):
    """Where a ledger file stands.

    Attributes:
        schema: Its schema step; None for a file without one.
        newest_schema: The newest step this release knows.
        fault: Why it cannot be read at all; empty when it can.
    """

    schema: str | None
    newest_schema: str
    fault: str = ""


def file_state(path: Path) -> FileState:
    """Return the state of the ledger file at `path`."""
    try:
        with closing(open_reader(path)) as connection:
            return FileState(schema_version(connection), HEAD)
    except sqlite3.Error as error:
        return FileState(None, HEAD, str(error))


def sqlite_version() -> tuple[int, int, int]:
    """Return the version of the SQLite library in use."""
    return sqlite3.sqlite_version_info
