"""Read-only connections and the threads that use them.

A long scan must not stop the event loop, which is the writer as well. Each reader is one
thread with one connection; SQLite lets go of the interpreter while it works. A call sees
one snapshot (`BEGIN` … `ROLLBACK`) and never waits for the writer.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bursar.core.errors import Unavailable
from bursar.core.ids import Org
from bursar.storage.sqlite.connection import SqliteConnection
from bursar.storage.sqlite.store import translated_errors

Result = TypeVar("Result")
READERS = 2
"""More gain nothing on two cores; a scan holds one, short reads pass by the other."""

WAITING_MAX = 256
"""Calls under way or waiting; at 10 ms each the last one has waited about a second."""


class SqliteReaders:
    """A few connections, each used by one thread.

    `connect` opens a read-only connection; it is called once a thread, when first needed.
    """

    def __init__(self, connect: Callable[[], SqliteConnection], *, readers: int = READERS) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="reader")
        self._own = threading.local()
        self._opened: list[SqliteConnection] = []
        self._waiting = 0

    async def run(self, _org: Org, work: Callable[[SqliteConnection], Result]) -> Result:
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

    async def run_short(self, _org: Org, work: Callable[[SqliteConnection], Result]) -> Result:
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

    def _read(self, work: Callable[[SqliteConnection], Result]) -> Result:
        connection = self._connection()
        with translated_errors():
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")

    def _connection(self) -> SqliteConnection:
        connection: SqliteConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
            self._opened.append(connection)
        return connection
