"""`kill -9` during ingest: nothing acknowledged is lost, nothing is counted twice.

Short form: five kills. Long form (`make faults`): fifty, as many as the promise says; a
fifth of all kills falls into the server's start.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from bursar.wiring import verify_file
from support.book import Book, totals_of
from support.server import PROGRAM, Server, environment, running_server

KILLS = 50 if os.environ.get("BURSAR_TEST_LONG") == "1" else 5
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261124"))
SENDERS = 6
ANSWER_S = 20

pytestmark = pytest.mark.long


def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    data_dir = tmp_path / "data"
    book = Book(SEED)
    key = ""
    starts_s: list[float] = []
    recorded_before = 0
    for number in range(KILLS):
        if number % 5 == 4:
            _kill_while_it_starts(data_dir, after_s=chance.uniform(0.02, 1.2))
            continue
        begun = time.monotonic()
        with running_server(data_dir) as server:
            starts_s.append(time.monotonic() - begun)
            key = server.ingest_key or key
            assert book.check(data_dir) >= recorded_before
            _send_and_kill(server, book, key, after_s=chance.uniform(0, 0.4))
        recorded_before = len(book.acknowledged)
    with running_server(data_dir) as server:
        recorded, acknowledged = book.check(data_dir), len(book.acknowledged)
        book.resend_all(server.client, key)
    assert acknowledged > 0
    assert totals_of(data_dir) == book.totals()
    assert verify_file(data_dir).violations == ()
    starts_s.sort()
    print(  # noqa: T201 - the figures of the reliability page
        f"seed {SEED}, {KILLS} kills: {len(book.sent)} sent, {acknowledged} acknowledged,"
        f" {recorded} recorded before the last resend; from start to listening"
        f" median {starts_s[len(starts_s) // 2]:.2f} s, most {starts_s[-1]:.2f} s"
    )


def test_an_orderly_end_in_the_middle_of_it_loses_nothing_either(tmp_path: Path) -> None:
    book = Book(SEED)
    with running_server(tmp_path / "data") as server:
        key = str(server.ingest_key)
        statuses = _send_until_it_ends(server, book, key, end=lambda: _end(server), after_s=0.2)
        assert statuses <= {202, 429}
        assert not server.is_running
        book.check(tmp_path / "data")
    assert verify_file(tmp_path / "data").violations == ()


def _end(server: Server) -> None:
    assert server.stop() == 0


def _send_and_kill(server: Server, book: Book, key: str, *, after_s: float) -> None:
    assert _send_until_it_ends(server, book, key, end=server.kill9, after_s=after_s) <= {202}


def _send_until_it_ends(
    server: Server, book: Book, key: str, *, end: Callable[[], None], after_s: float
) -> set[int]:
    """Send from several connections at once while the server ends; return the statuses of its answers."""
    statuses: list[int] = []

    def send() -> None:
        with httpx2.Client(base_url=server.base_url, timeout=10, trust_env=False) as client:
            while True:
                try:
                    statuses.append(book.send(client, book.make(book.batch_size()), key))
                except httpx2.TransportError:
                    return

    senders = [threading.Thread(target=send) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    # The random moment counts from the first answer: before it there is nothing to lose.
    deadline = time.monotonic() + ANSWER_S
    while not statuses and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(after_s)
    end()
    for sender in senders:
        sender.join(20)
    return set(statuses)


def _kill_while_it_starts(data_dir: Path, *, after_s: float) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", "--data-dir", str(data_dir)],
        env=environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
