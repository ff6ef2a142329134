"""A sync of the disk lies between every request and its 2xx: looked at from outside, system call by call."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bursar.wiring import verify_file
from support.book import Book, totals_of
from support.desk import event
from support.server import running_server

REQUESTS = 12
ATTACH_S = 20
CALLS = "trace=fsync,fdatasync,read,recvfrom,write,writev,sendto,sendmsg"
SYNC = re.compile(r"(?:fsync|fdatasync)(?:\(| resumed).*= 0$")
DOORS = {
    "/v1/ingest": {"events": [event()]},
    "/v1/track": {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 1},
    "/v1/events": {"agent": "a", "model": "gpt-4o", "input_tokens": 1},
}

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and "CI" not in os.environ, reason="no strace here: not proved"
)


@needs_strace
def test_no_answer_says_recorded_before_a_sync(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with running_server(tmp_path / "data") as server:
        tracer = _attached(server.pid, trace)
        for _ in range(REQUESTS):
            for path, body in DOORS.items():
                assert server.post(path, body).status_code in {201, 202}
        large = {"events": [event() for _ in range(300)]}
        assert server.post("/v1/ingest", large).status_code == 202
        tracer.terminate()
        tracer.wait(10)
    assert _answers_without_a_sync(trace.read_text(errors="replace").splitlines()) == (3 * REQUESTS + 1, 0)


@needs_strace
def test_while_the_disk_fails_to_sync_nothing_is_acknowledged_and_nothing_is_lost(tmp_path: Path) -> None:
    book = Book(11)
    data_dir = tmp_path / "data"
    with running_server(data_dir) as server:
        key = str(server.ingest_key)
        assert book.send(server.client, book.make(80), key) == 202
        tracer = _attached(server.pid, tmp_path / "trace", "-e", "inject=fsync,fdatasync:error=EIO")
        for size in (1, 80, 1, 5):
            assert book.send(server.client, book.make(size), key) == 429
        assert server.get("/v1/events", limit=1).status_code == 200
        tracer.terminate()
        tracer.wait(10)
        assert book.send(server.client, book.make(1), key) == 202
        assert book.send(server.client, book.make(80), key) == 202
        server.kill9()
    with running_server(data_dir) as server:
        assert book.check(data_dir) == len(book.acknowledged) == 161
        book.resend_all(server.client, key)
    assert totals_of(data_dir) == book.totals()
    assert verify_file(data_dir).violations == ()


def _attached(pid: int, trace: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start to write the server's system calls down, and wait until it is so."""
    said = trace.with_suffix(".log")
    with said.open("wb") as log:
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-s", "32", "-e", CALLS, *options, "-o", str(trace), "-p", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    deadline = time.monotonic() + ATTACH_S
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            pytest.skip(f"strace may not look at processes here: not proved. {said.read_text()}")
        status = Path(f"/proc/{pid}/status").read_text()
        if f"TracerPid:\t{tracer.pid}" in status:
            return tracer
        time.sleep(0.02)
    raise AssertionError("strace did not attach")


def _answers_without_a_sync(calls: list[str]) -> tuple[int, int]:
    """Return how many 2xx answers to posts there are, and how many came without a sync since the request."""
    answers = unsynced = 0
    is_synced = False
    for call in calls:
        if '"POST /v1/' in call:
            is_synced = False
        elif SYNC.search(call):
            is_synced = True
        elif '"HTTP/1.1 20' in call and "<unfinished" not in call.split('"HTTP')[0]:
            answers += 1
            unsynced += not is_synced
    return answers, unsynced
