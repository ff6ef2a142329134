"""A backup under load, restored elsewhere: one state of the ledger, with all that was acknowledged.

Clients record events, and hold and settle amounts, while `bursar backup` runs. What was acknowledged before
it began is in it, what was sent after it ended is not, and what it holds adds up, by the clients' own book.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from bursar.core.ids import key_from_text
from bursar.core.money import nusd_from_text
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring import verify_file
from support.book import Book, Totals
from support.engines import Database, temporary_database
from support.program import bursar
from support.server import Server, running_server

LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
BACKUPS = 10 if LONG else 2
PAUSE_S = 0 if LONG else 0.02
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
SENDERS = 2
HOLDERS = 2
MORE = 200
HELD = "0.01"
TOTALS = (
    "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cost_nusd) FROM event WHERE hold IS NULL"
)

pytestmark = pytest.mark.long


class Known(NamedTuple):
    """What the clients know at a moment."""

    events: frozenset[str]
    holds: frozenset[str]
    settled: frozenset[str]


class Clients:
    """Threads that record, hold and settle until the end; their books can be read meanwhile."""

    def __init__(self, server: Server, key: str) -> None:
        self.book = Book(SEED)
        self.holds: set[str] = set()
        self.settled: set[str] = set()
        self.failures: list[str] = []
        self._url = server.base_url
        self._key = key
        self._token = server.token
        self._over = threading.Event()
        self._lock = threading.Lock()
        works = [self._record] * SENDERS + [self._hold] * HOLDERS
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    @contextmanager
    def working(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(30)
        assert self.failures == []

    def acknowledged(self) -> Known:
        with self._lock:
            return Known(frozenset(self.book.acknowledged), frozenset(self.holds), frozenset(self.settled))

    def wait_for(self, more: int) -> None:
        """Wait until so many further events were acknowledged, and a hold was settled."""
        aim, deadline = len(self.book.acknowledged) + more, time.monotonic() + 30
        while len(self.book.acknowledged) < aim or not self.settled:
            assert time.monotonic() < deadline, self.failures
            assert self.failures == []
            time.sleep(0.01)

    def _run(self, work: object) -> None:
        with httpx2.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._over.is_set() and not self.failures:
                work(client)  # type: ignore[operator]
                time.sleep(PAUSE_S)

    def _record(self, client: httpx2.Client) -> None:
        status = self.book.send(client, self.book.make(self.book.batch_size()), self._key)
        if status != 202:
            self.failures.append(f"/v1/ingest: {status}")

    def _hold(self, client: httpx2.Client) -> None:
        hold = self._post(client, "/v1/holds", {"agent": "bot", "model": "gpt-4o", "amount_usd": HELD})
        if hold is None:
            return
        with self._lock:
            self.holds.add(str(hold["id"]))
        if self._post(client, f"/v1/holds/{hold['id']}/settle", {"cost_usd": HELD}) is not None:
            with self._lock:
                self.settled.add(str(hold["id"]))

    def _post(self, client: httpx2.Client, path: str, body: object) -> dict[str, object] | None:
        answer = client.post(path, json=body, headers={"Authorization": f"Bearer {self._token}"})
        if answer.status_code in {200, 201}:
            return dict(answer.json())
        self.failures.append(f"{path}: {answer.status_code} {answer.text}")
        return None


def test_a_backup_under_load_is_one_exact_state(database: Database, tmp_path: Path) -> None:
    with running_server(database.folder, **database.environment) as server:
        key = str(server.ingest_key)
        budget = server.post("/v1/budgets", {"name": "all", "limit": "1000000.00"})
        assert budget.status_code == 201, budget.text
        clients = Clients(server, key)
        copies = []
        with clients.working():
            for number in range(BACKUPS):
                clients.wait_for(more=MORE)
                folder = tmp_path / f"backup-{number}"
                folder.mkdir()
                before = clients.acknowledged()
                ran = bursar("backup", folder / DATABASE_NAME, "--data-dir", database.folder,
                             **database.environment)  # fmt: skip
                assert ran.code == 0, ran.talk
                copies.append((folder / DATABASE_NAME, before, sent(clients)))
        assert len(clients.acknowledged().events) > len(copies[-1][1].events), "nobody worked meanwhile"
    for path, before, after in copies:
        check(path, clients.book, before, after)
    goes_on(database, copies[-1][0], clients.book, key, tmp_path)
    print(f"seed {SEED}: {len(clients.book.sent)} events, {len(clients.holds)} holds, {len(copies)} backups")  # noqa: T201


def sent(clients: Clients) -> frozenset[str]:
    """What had been sent by now, acknowledged or not."""
    return frozenset(dict(clients.book.sent))


def check(path: Path, book: Book, before: Known, after: frozenset[str]) -> None:
    """Compare a backup with what the clients knew before it began and had sent when it ended."""
    assert verify_file(path).violations == ()
    with closing(sqlite3.connect(path)) as connection:
        recorded = {row[0] for row in connection.execute("SELECT key FROM event WHERE hold IS NULL")}
        totals = Totals(*connection.execute(TOTALS).fetchone())
        holds = dict(connection.execute("SELECT id, state FROM hold"))
        [(settled, held)] = connection.execute("SELECT sum(settled), sum(held) FROM budget_window")
    assert {key_from_text(key) for key in before.events} <= recorded, "an acknowledged event is missing"
    assert recorded <= {key_from_text(key) for key in after}, "an event of later is there"
    contained = [one for key, one in book.sent.items() if key_from_text(key) in recorded]
    assert totals == totals_of(contained)
    for hold in before.holds:
        assert bytes.fromhex(hold.partition("_")[2]) in holds, "an acknowledged hold is missing"
    for hold in before.settled:
        assert holds[bytes.fromhex(hold.partition("_")[2])] == "settled"
    states = list(holds.values())
    assert held == states.count("open") * nusd_from_text(HELD)
    # The recorded events are of months before the budget: they fill none of its windows.
    assert settled == states.count("settled") * nusd_from_text(HELD)


def totals_of(events: list[dict[str, object]]) -> Totals:
    return Totals(
        len(events),
        sum(int(str(one["input_tokens"])) for one in events),
        sum(int(str(one["output_tokens"])) for one in events),
        sum(int(str(one["cost"]).replace(".", "")) for one in events),
    )


def goes_on(database: Database, path: Path, book: Book, key: str, tmp_path: Path) -> None:
    """Restore a backup elsewhere and send everything once more, as clients with buffers do."""
    with temporary_database(database.kind, tmp_path / "elsewhere") as restored:
        ran = bursar("restore", path, "--data-dir", restored.folder, **restored.environment)
        assert ran.code == 0, ran.talk
        with running_server(restored.folder, **restored.environment) as server:
            book.resend_all(server.client, key)
        sums = "SELECT sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nusd) FROM rollup_agent"
        [(of_holds,)] = restored.rows("SELECT count(*) FROM event WHERE hold IS NOT NULL")
        requests, input_tokens, output_tokens, cost = restored.rows(sums)[0]
        assert (requests - of_holds, input_tokens, output_tokens) == book.totals()[:3]
        assert cost - of_holds * nusd_from_text(HELD) == book.totals().cost_nusd
        assert restored.verify().violations == ()
