"""Read-only connections and the threads that use them.

A long scan must not stop the event loop, which is the writer as well. Each reader is one
thread with one connection; SQLite lets go of the interpreter while it works. A call sees
one snapshot (`BEGIN` … `ROLLBACK`) and never waits for the writer.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from bursar.core.errors import Unavailable
from bursar.storage.sqlite.store import translated_errors

Result = TypeVar("Result")
Cell = int | str | None
Parameters = Mapping[str, int | bytes | str | None]

_decode = msgspec.json.Decoder(list[tuple[Cell, ...]]).decode

READERS = 2
"""More gain nothing on two cores; a scan holds one, short reads pass by the other."""

WAITING_MAX = 256
"""Calls under way or waiting; at 10 ms each the last one has waited about a second."""


def fetch(
    connection: sqlite3.Connection, sql: str, columns: Iterable[str], parameters: Parameters
) -> list[tuple[Cell, ...]]:
    """Return `columns` of every row of `sql`, fetched as one row of JSON.

    Args:
        connection: With a snapshot begun.
        sql: A SELECT; its order is kept.
        columns: SQL over its columns, whose table is `r`; numbers and text only, so a blob as `hex(…)`.
        parameters: By name.
    """
    listed = f"SELECT json_group_array(json_array({', '.join(columns)})) FROM ({sql}) AS r"
    return _decode(connection.execute(listed, parameters).fetchone()[0])


class SqliteReaders:
    """A few connections, each used by one thread.

    `connect` opens a read-only connection; it is called once a thread, when first needed.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, readers: int = READERS) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="reader")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._waiting = 0

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what `work` reads from one snapshot, in a reader's thread.

        Raises:
            Unavailable: `WAITING_MAX` calls are under way already.
        """
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many reports are being read; try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)
        finally:
            self._waiting -= 1

    def run_short(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what `work` reads from one snapshot, at once, in the thread that asks.

        Only for a bounded number of seeks: the loop stands still meanwhile.
        """
        return self._read(work)

    def close(self) -> None:
        """Wait for what is being read, then close every connection."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = self._connection()
        with translated_errors():
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
            self._opened.append(connection)
        return connection
