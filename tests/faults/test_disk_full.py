"""A full disk: writes are refused in the way that loses nothing, reads go on, writes come back by themselves.

Two disks: a limit on the size of any file of the running server, which works everywhere, and
a small file system of its own where the kernel lets us mount one.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from bursar.wiring import verify_file
from support.book import Book, totals_of
from support.server import PROGRAM, environment, running_server

RESUME_S = 5
FILL_S = 60
FILE_SYSTEM_BYTES = 24 * 2**20


class Disk:
    """A running server and its disk, which can be filled and emptied again."""

    def __init__(
        self, url: str, token: str, data_dir: Path, fill: Callable[[], None], empty: Callable[[], None]
    ) -> None:
        self.client = httpx2.Client(base_url=url, timeout=30, trust_env=False)
        self.token = token
        self.data_dir = data_dir
        self.fill = fill
        self.empty = empty

    def post(self, path: str, body: object) -> httpx2.Response:
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {self.token}"})

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(path, headers={"Authorization": f"Bearer {self.token}"})


@contextmanager
def limited_files(folder: Path) -> Iterator[Disk]:
    """A server whose files may not grow once the disk is filled."""
    data_dir = folder / "data"
    with running_server(data_dir) as server:

        def fill() -> None:
            largest = max(path.stat().st_size for path in data_dir.iterdir())
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest // 2, resource.RLIM_INFINITY))

        def empty() -> None:
            resource.prlimit(
                server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )

        disk = Disk(server.base_url, server.token, data_dir, fill, empty)
        with disk.client:
            yield disk


@contextmanager
def small_file_system(folder: Path) -> Iterator[Disk]:
    """A server on a file system of its own, of 24 MiB, that a large file fills."""
    data_dir = folder / "data"
    data_dir.mkdir()
    script = f'mount -t tmpfs -o size={FILE_SYSTEM_BYTES} tmpfs "$1" && shift && exec "$@"'
    serve = [*PROGRAM, "serve", "--port", "0", "--data-dir", str(data_dir)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(data_dir), *serve],
            env=environment({}),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    inside = Path(f"/proc/{process.pid}/root{data_dir}")
    try:
        url = _address(process, inside, folder / "server.log")

        def fill() -> None:
            with (inside / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while filler.write(bytes(65536)):
                    pass

        disk = Disk(url, (inside / "operator.token").read_text(), inside, fill, (inside / "filler").unlink)
        with disk.client:
            yield disk
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _address(process: "subprocess.Popen[bytes]", inside: Path, log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return str(json.loads((inside / "server.json").read_text())["url"])
        except (OSError, ValueError):
            time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()[-1000:]}")


def _may_mount() -> bool:
    """Whether this machine lets us mount a file system in a namespace of our own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    trial = 'mount -t tmpfs -o size=65536 tmpfs "$0"'
    done = subprocess.run([unshare, "-rm", "sh", "-c", trial, "/mnt"], capture_output=True, check=False)
    return done.returncode == 0 and os.access("/proc/self/root", os.R_OK)


@pytest.fixture(params=["a limit on files", "a file system of its own"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a limit on files":
        with limited_files(tmp_path) as opened:
            yield opened
    elif not _may_mount():
        pytest.skip("this kernel does not let us mount a file system: not proved here")
    else:
        with small_file_system(tmp_path) as opened:
            yield opened


def test_a_full_disk_loses_nothing_and_heals_by_itself(disk: Disk, tmp_path: Path) -> None:
    book = Book(7)
    assert book.send(disk.client, book.make(500), disk.token) == 202
    disk.fill()
    refused = _send_until_refused(disk, book)
    tracked = _only_refusals_that_keep_what_was_sent(disk, refused)
    assert disk.get("/v1/costs?startDate=2026-03-01&endDate=2026-03-01").status_code == 200
    assert disk.get("/v1/events?limit=5").json()["data"]
    assert disk.get("/healthz").status_code == 200
    disk.empty()
    _wait_until_taken(disk, refused)
    book.resend_all(disk.client, disk.token)
    ledger = _copied(disk.data_dir, tmp_path / "copy")
    totals = book.totals()
    assert totals_of(ledger) == totals._replace(requests=totals.requests + tracked)
    assert verify_file(ledger).violations == ()


def _copied(data_dir: Path, folder: Path) -> Path:
    """Copy an idle server's ledger, log included, out of a file system that only it can see."""
    folder.mkdir()
    for name in ("bursar.db", "bursar.db-wal"):
        shutil.copy(data_dir / name, folder / name)
    return folder


def _send_until_refused(disk: Disk, book: Book) -> list[dict[str, object]]:
    """Send until the server takes no more: what it had room for is durable and stays."""
    deadline = time.monotonic() + FILL_S
    while time.monotonic() < deadline:
        events = book.make(200)
        status = book.send(disk.client, events, disk.token)
        if status != 202:
            assert status == 429
            return events
    raise AssertionError("the disk was never full")


def _only_refusals_that_keep_what_was_sent(disk: Disk, events: list[dict[str, object]]) -> int:
    """Knock at each door; return how many small calls still found room, which are durable then."""
    call = {"provider": "x" * 200, "model": "x", "inputTokens": 0, "outputTokens": 0}
    knocks = [disk.post("/v1/track", call) for _ in range(40)]
    knocks += [disk.post("/v1/ingest", {"events": events * times}) for times in (1, 4)]
    assert {answer.status_code for answer in knocks} <= {201, 202, 429}
    refusals = [answer for answer in knocks if answer.status_code == 429]
    assert refusals
    for answer in refusals:
        assert answer.json()["reason"] == "burst"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
    admin = [disk.post("/v1/keys", {"name": f"key {number} " + "x" * 200}) for number in range(40)]
    assert {answer.status_code for answer in admin} <= {201, 507}
    assert admin[-1].json()["code"] == "storage_full"
    return sum(answer.status_code == 201 for answer in knocks)


def _wait_until_taken(disk: Disk, events: list[dict[str, object]]) -> None:
    """Wait for the first write that is taken again, with the same process."""
    begun = time.monotonic()
    while disk.post("/v1/ingest", {"events": events}).status_code != 202:
        assert time.monotonic() - begun < RESUME_S, "writes did not resume"
        time.sleep(0.1)
