"""A client's own book: what it sent, what was acknowledged, and whether the ledger agrees.

The book knows nothing of the server but its answers. Its rule: acknowledged ⊆ recorded ⊆
sent, each key once, and after a last resend of everything the sums are exact.
"""

import random
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2

from bursar.core.ids import key_from_text
from bursar.storage.sqlite.store import DATABASE_NAME
from support.desk import event

AGENTS = 7
RUNS = 40


class Totals(NamedTuple):
    """What all sent events add up to."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int


class Book:
    """Makes events, remembers them, and sends them; safe to use from several threads."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - repeatable
        self._lock = threading.Lock()
        self.sent: dict[str, dict[str, object]] = {}
        self.acknowledged: set[str] = set()

    def make(self, count: int) -> list[dict[str, object]]:
        """Return `count` new events with costs of their own, entered as sent."""
        with self._lock:
            return [self._one() for _ in range(count)]

    def _one(self) -> dict[str, object]:
        number = len(self.sent)
        chance = self._chance
        made = event(
            idempotency_key=f"key-{number}",
            agent_name=f"agent-{number % AGENTS}",
            run_id=f"run-{number % RUNS}",
            input_tokens=chance.randint(0, 5000),
            output_tokens=chance.randint(1, 900),
            cost=f"{chance.randint(1, 10**9) / 10**9:.9f}",
            timestamp=f"2026-03-01T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00Z",
        )
        self.sent[f"key-{number}"] = made
        return made

    def batch_size(self) -> int:
        """Return a size: mostly small ones, which share commits, some large."""
        with self._lock:
            return self._chance.choice((1, 1, 1, 2, 5, 30, 70, 200))

    def send(self, client: httpx2.Client, events: Sequence[dict[str, object]], key: str) -> int:
        """Post a batch; enter what is acknowledged; return the status.

        Raises:
            httpx2.TransportError: There was no answer; the events may be recorded or not.
        """
        answer = client.post(
            "/v1/ingest", json={"events": list(events)}, headers={"Authorization": f"Bearer {key}"}
        )
        if answer.status_code == 202:
            assert answer.json()["accepted"] == len(events), answer.text
            with self._lock:
                self.acknowledged.update(str(one["idempotency_key"]) for one in events)
        return answer.status_code

    def resend_all(self, client: httpx2.Client, key: str) -> None:
        """Send everything once more, as a client with a disk buffer does."""
        events = list(self.sent.values())
        for start in range(0, len(events), 1000):
            assert self.send(client, events[start : start + 1000], key) == 202

    @staticmethod
    def keys(names: Iterable[str]) -> set[bytes]:
        """Return keys as the ledger has them."""
        return {key_from_text(name) for name in names}

    def totals(self) -> Totals:
        values = list(self.sent.values())
        return Totals(
            len(values),
            sum(int(str(one["input_tokens"])) for one in values),
            sum(int(str(one["output_tokens"])) for one in values),
            sum(int(str(one["cost"]).replace(".", "")) for one in values),
        )

    def check(self, data_dir: Path) -> int:
        """Compare with the file: nothing acknowledged is missing, nothing is there that was not sent.

        Returns how many events are recorded.
        """

        connection = sqlite3.connect(data_dir / DATABASE_NAME)
        try:
            recorded = [row[0] for row in connection.execute("SELECT key FROM event")]
        finally:
            connection.close()
        with self._lock:
            acknowledged = {key_from_text(key) for key in self.acknowledged}
            sent = {key_from_text(key) for key in self.sent}
        assert len(recorded) == len(set(recorded)), "an event is recorded twice"
        assert acknowledged <= set(recorded), (
            f"{len(acknowledged - set(recorded))} acknowledged ones are lost"
        )
        assert set(recorded) <= sent, "events are recorded that were never sent"
        return len(recorded)


def totals_of(data_dir: Path) -> Totals:
    """Return what the ledger's hourly roll-up adds up to."""
    connection = sqlite3.connect(data_dir / DATABASE_NAME)
    try:
        row = connection.execute(
            "SELECT sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nusd) FROM rollup_agent"
        ).fetchone()
    finally:
        connection.close()
    return Totals(*row)
