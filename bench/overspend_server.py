"""The server that a scenario runs against: one that it may kill, or one that somebody else runs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from server import first_answer, free_port, prepare


class Target(Protocol):
    """Where callers send to.

    Attributes:
        url: The address without a path; the same before and after a kill.
        key: What callers authenticate with.
        admin_key: What makes budgets.
        kills: How often it was killed.
    """

    url: str
    key: str
    admin_key: str
    kills: int

    async def kill_and_start(self) -> None:
        """End it as a power cut ends a process, and start it again."""
        ...


class Own:
    """`bursar serve` as a child of this process, on a port that it keeps over a kill."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.kills = 0
        self.key = prepare(data_dir)
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
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    def _start(self) -> None:
        begun = time.perf_counter()
        log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        with log.open("ab") as out:
            command = [*_BURSAR, "serve", "--host", "127.0.0.1", "--port", str(self._port)]
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)], stdout=out, stderr=out
            )
        first_answer(self._process, self._port, begun)


class Others:
    """A server that runs already: nothing of it is killed, and its file is not looked at."""

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


_BURSAR = [str(Path(sys.executable).with_name("bursar"))]
