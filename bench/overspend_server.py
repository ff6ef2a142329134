"""The server that a scenario runs against: one that it may kill, or one that somebody else runs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Protocol

from postgres_server import services
from server import first_answer, free_port, prepare


class Target(Protocol):
    """Where callers send to.

    Attributes:
        name: What tables call it; empty for one process on a file.
        key: What callers authenticate with.
        admin_key: What makes budgets.
        kills: How often a process of it was killed.
        stops: How often its database was stopped at once.
    """

    name: str
    key: str
    admin_key: str
    kills: int
    stops: int

    @property
    def url(self) -> str:
        """The address without a path; the same before and after a kill. Of several, each in its turn."""
        ...

    async def kill_and_start(self) -> None:
        """End it as a power cut ends a process, and start it again."""
        ...


class Own:
    """`bursar serve` as a child of this process, on a port that it keeps over a kill."""

    name = ""
    stops = 0

    def __init__(self, data_dir: Path, database: str = "", key: str = "") -> None:
        self.data_dir = data_dir
        self.kills = 0
        self._environment = {**os.environ, "BURSAR_DATABASE_URL": database, "NO_COLOR": "1", "COLUMNS": "120"}
        self.key = key or prepare(data_dir, database=database)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._start()
        self.admin_key = (data_dir / "operator.token").read_text().strip()

    async def kill_and_start(self) -> None:
        """Send SIGKILL, and start a process that has nothing but the file."""
        assert self._process is not None
        self._process.kill()
        self.kills += 1
        await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(self._start)

    def stop(self) -> None:
        """End it as an operator would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def verified(self) -> tuple[int, str]:
        """Run `bursar ledger verify` on the file; return its exit code and what it printed."""
        command = [*_BURSAR, "ledger", "verify", "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
        return done.returncode, done.stdout + done.stderr

    def _start(self) -> None:
        begun = time.perf_counter()
        log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        with log.open("ab") as out:
            command = [*_BURSAR, "serve", "--host", "127.0.0.1", "--port", str(self._port)]
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)], stdout=out, stderr=out, env=self._environment
            )
        first_answer(self._process, self._port, begun)


class Several:
    """Several processes on one PostgreSQL, of which one is killed, and then the database stopped at once."""

    def __init__(self, data_dir: Path, folder: Path, processes: int) -> None:
        self.name = f"PostgreSQL, {processes} processes"
        self.stops = 0
        self._folder = folder
        service = services.start(folder)
        self._first = Own(data_dir, service.address)
        self.key, self.admin_key = self._first.key, self._first.admin_key
        more = (Own(data_dir, service.address, self.key) for _ in range(processes - 1))
        self._processes = [self._first, *more]
        self._next = cycle(self._processes)
        self._mishaps = cycle((self._kill_one, self._stop_database))

    @property
    def url(self) -> str:
        """See the protocol."""
        return next(self._next).url

    @property
    def kills(self) -> int:
        """See the protocol."""
        return sum(one.kills for one in self._processes)

    async def kill_and_start(self) -> None:
        """Kill a process, or stop the database, in turns."""
        await next(self._mishaps)()

    def stop(self) -> None:
        """End everything."""
        for one in self._processes:
            one.stop()

    def verified(self) -> tuple[int, str]:
        """Run `bursar ledger verify` on the database."""
        return self._first.verified()

    async def _kill_one(self) -> None:
        await self._processes[-1].kill_and_start()

    async def _stop_database(self) -> None:
        await asyncio.to_thread(services.stop, self._folder, mode="immediate")
        self.stops += 1
        await asyncio.to_thread(services.start, self._folder)


class Others:
    """A server that runs already: nothing of it is killed, and its file is not looked at."""

    name = ""
    stops = 0

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key, self.admin_key, self.kills = url, key, key, 0

    async def kill_and_start(self) -> None:
        """Do nothing: it is not ours to kill."""


@contextlib.contextmanager
def own_server(data_dir: Path) -> Iterator[Own]:
    """Run a server on a fresh data directory; it is ended at the end if it still runs."""
    server = Own(data_dir)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def own_servers(work: Path, processes: int) -> Iterator[Several]:
    """Run several processes on a fresh PostgreSQL of their own; all of it is gone at the end."""
    folder = work / f"postgres-{processes}"
    try:
        servers = Several(work / f"data-{processes}", folder, processes)
        try:
            yield servers
        finally:
            servers.stop()
    finally:
        services.throw_away(folder)


_BURSAR = [str(Path(sys.executable).with_name("bursar"))]
