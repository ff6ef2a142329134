"""On PostgreSQL, too, a sync of the log lies between every request and its 2xx; a failed one is no 2xx."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.book import Book
from support.desk import event
from support.lost import OwnDatabase, OwnServer, own_server
from support.server import Server, running_server
from support.spenders import EVENTS
from support.traced import DOORS, REQUESTS, answers_without_a_sync, attached, needs_strace

BACK_S = 30
TRIES = 5
BACK_ENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bursar'"
HOLD = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.01"}
SEED = int(os.environ.get("BURSAR_TEST_SEED", "11"))

pytestmark = needs_strace


@pytest.fixture
def own() -> Iterator[OwnServer]:
    with own_server("durable") as server:
        yield server


@pytest.fixture
def database(own: OwnServer, tmp_path: Path) -> Iterator[OwnDatabase]:
    made = OwnDatabase(tmp_path / "data", own.service)
    yield made
    made.drop()


def back_ends(server: Server, database: OwnDatabase) -> list[int]:
    """Return the processes that do the server's work, once there are as many as it needs."""
    for path, body in DOORS.items():
        assert server.post(path, body).status_code in {201, 202}
    return [pid for (pid,) in database.rows(BACK_ENDS)]


def test_no_answer_says_recorded_before_a_sync(database: OwnDatabase, tmp_path: Path) -> None:
    with running_server(database.folder, **database.environment) as server:
        for number in range(TRIES):
            trace = tmp_path / f"trace-{number}"
            looked_at = back_ends(server, database)
            tracer = attached([server.pid, *looked_at], trace)
            work(server)
            tracer.terminate()
            tracer.wait(10)
            # A connection made meanwhile would have synced unseen.
            if {pid for (pid,) in database.rows(BACK_ENDS)} <= {*looked_at}:
                break
    calls = trace.read_text(errors="replace").splitlines()
    assert answers_without_a_sync(calls) == ((len(DOORS) + 2) * REQUESTS + 1, 0)
    assert database.verify().violations == ()


def work(server: Server) -> None:
    for _ in range(REQUESTS):
        for path, body in DOORS.items():
            assert server.post(path, body).status_code in {201, 202}
        hold = server.post("/v1/holds", HOLD).json()
        assert server.post(f"/v1/holds/{hold['id']}/settle", {"cost_usd": "0.01"}).status_code == 200
    large = {"events": [event() for _ in range(300)]}
    assert server.post("/v1/ingest", large).status_code == 202


def test_a_sync_that_fails_acknowledges_nothing_and_loses_nothing(
    own: OwnServer, database: OwnDatabase, tmp_path: Path
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to repeat it by
    book = Book(SEED)
    with running_server(database.folder, **database.environment) as server:
        key = str(server.ingest_key)
        assert book.send(server.client, book.make(80), key) == 202
        tracer = attached(
            back_ends(server, database), tmp_path / "trace", "-e", "inject=fsync,fdatasync:error=EIO"
        )
        # PostgreSQL ends every process when the log cannot be synced, and begins with what is on the disk.
        assert book.send(server.client, book.make(80), key) == 429
        assert re.search(r"PANIC:.*could not fdatasync|PANIC:.*could not fsync", own.log)
        deadline = time.monotonic() + BACK_S
        while book.send(server.client, book.make(1), key) != 202:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        assert book.keys(book.acknowledged) <= recorded(database), "acknowledged events are lost"
        server.kill9()
    with running_server(database.folder, **database.environment) as server:
        assert book.keys(book.acknowledged) <= recorded(database), "acknowledged events are lost"
        book.resend_all(server.client, key)
    assert book.keys(book.sent) <= recorded(database)
    assert database.verify().violations == ()


def recorded(database: OwnDatabase) -> set[bytes]:
    """Return the keys of all events, those of the doors among them."""
    return {key for (key,) in database.rows(EVENTS)}
