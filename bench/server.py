"""A real server in a process of its own, on a data directory made beforehand.

Started by `bursar serve`; its CPU and memory are read from /proc, so that the load
generator and the other processes of the machine do not count.
"""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bursar.identity.keys import Scope
from bursar.settings import Settings
from bursar.wiring import Treasury

READY_SECONDS_MAX = 60.0
NO_LOG = Path(os.devnull)
_TICKS = os.sysconf("SC_CLK_TCK")


class Server(NamedTuple):
    """A running server.

    Attributes:
        began_s: When it was started, on `time.perf_counter`.
        first_answer_s: How long that took until it answered `/healthz`.
        rss_at_start_mib: Resident memory when it first took a connection, before any request.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    began_s: float
    first_answer_s: float
    rss_at_start_mib: float

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, all threads."""
        return cpu_of(self.process.pid)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Return status and body of one GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mib_of(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def prepare(data_dir: Path, organisation: str = "default", *, database: str = "") -> str:
    """Make a ledger with one organisation; return a key that may ingest and read.

    `database` is PostgreSQL's address; without one the ledger is a file in `data_dir`.
    """

    async def work() -> str:
        treasury = Treasury(Settings(data_dir=data_dir, database_url=database))
        await treasury.start()
        try:
            made = await treasury.create_organisation(organisation, "UTC")
            return await treasury.create_key(made.org, "bench", frozenset({Scope.INGEST, Scope.READ}))
        finally:
            await treasury.stop()

    return asyncio.run(work())


@contextmanager
def serving(data_dir: Path, *, database: str = "") -> Iterator[Server]:
    """Run `bursar serve` on a free port until the block ends."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("bursar")), "serve", "--host", "127.0.0.1"]
    environment = {**os.environ, "BURSAR_DATABASE_URL": database}
    with running(
        [*command, "--port", str(port), "--data-dir", str(data_dir)], port, environment=environment
    ) as one:
        yield one


@contextmanager
def serving_app(app: str) -> Iterator[Server]:
    """Run an ASGI app of this folder under uvicorn, with the options that `bursar serve` uses."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    with running([*command, "--log-level", "warning", "--app-dir", str(Path(__file__).parent)], port) as one:
        yield one


@contextmanager
def running(
    command: list[str], port: int, *, log: Path = NO_LOG, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends; the block begins at its first answer."""
    begin = time.perf_counter()
    with log.open("wb") as out:
        errors = None if log == NO_LOG else out
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
    try:
        rss = first_answer(process, port, begin)
        yield Server(process, port, begin, time.perf_counter() - begin, rss)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def first_answer(process: "subprocess.Popen[bytes]", port: int, begin: float) -> float:
    """Wait for an answer on /healthz; return the MiB of memory right before it was asked."""
    while time.perf_counter() - begin < READY_SECONDS_MAX:
        assert process.poll() is None, "the server ended before it answered"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.connect()
            rss = rss_mib_of(process.pid)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.005)
        else:
            return rss
        finally:
            connection.close()
    raise AssertionError("the server does not answer")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
