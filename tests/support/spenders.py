"""Clients that record, hold and settle while everything breaks, and the book that they keep of it.

with Clients(lambda: server.base_url, key, SEED) as clients:
    …                                   kill, stop, cut
clients.finish(server)                  whatever is unknown is asked once more, with its key
clients.agree(database, server)

A client that hears nothing, or that nothing was done (429, 503, 507), asks again with the same key. Its
rule is the book's: acknowledged ⊆ recorded ⊆ sent, what is granted ≤ the limit, and exact in the end.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx2

from bursar.core.ids import key_from_text
from bursar.core.money import nusd_from_text, text_from_nusd
from support.book import Book
from support.engines import Database
from support.server import Server

AGENT = "spender"
BUSY = frozenset({429, 503, 507})
AGAIN_S = 0.05
CENT = 10_000_000
HOLDS = "SELECT id, state FROM hold"
EVENTS = "SELECT key FROM event WHERE hold IS NULL"
WINDOWS = "SELECT settled, held FROM budget_window"
SUMS = "SELECT sum(requests), sum(cost_nusd) FROM rollup_agent"


@dataclass(slots=True)
class Call:
    """One call of a client, under one key.

    Attributes:
        worst: What it sets aside, nano-USD.
        cost: What it will settle; None when it is void in the end.
        is_extended: It is extended before its end.
        hold: The hold's id, once an answer named it.
        is_refused: The last answer was that there is no room.
        is_ending: Its end was sent.
        is_ended: Its end was acknowledged.
    """

    key: str
    worst: int
    cost: int | None
    is_extended: bool
    hold: str = ""
    is_refused: bool = False
    is_ending: bool = False
    is_ended: bool = False


class Told(NamedTuple):
    """An answer, and how long it took."""

    path: str
    status: int
    took_s: float
    text: str


class Over(Exception):
    """The client was told to end while it waited for an answer."""


class Clients:
    """Threads that work until the end of the block, over any number of servers and outages.

    Args:
        pick: Where to send the next request; empty while there is nobody.
        key: May record, hold and settle.
        seed: Of everything random.
        threads: How many.
        limit: Of the one budget that their holds meet, nano-USD.
        twice: The share of requests that are sent once more after they were answered.
    """

    def __init__(
        self,
        pick: Callable[[], str],
        key: str,
        seed: int,
        *,
        threads: int = 6,
        limit: int = 60 * CENT,
        twice: float = 0.05,
        timeout_s: float = 20,
    ) -> None:
        self.limit = limit
        self.book = Book(seed)
        self.calls: list[Call] = []
        self.told: list[Told] = []
        self.failures: list[str] = []
        self._key = key
        self._pick, self._twice, self._timeout_s = pick, twice, timeout_s
        self._headers = {"Authorization": f"Bearer {key}"}
        self._chance = random.Random(f"calls {seed}")  # noqa: S311 - repeatable
        self._name = f"{seed}-{id(self):x}"
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in list(self.told))

    def answered(self) -> int:
        """Return how many requests were taken so far."""
        return sum(one.status < 300 for one in list(self.told))

    def wait_for(self, more: int, seconds: float = 30) -> None:
        """Return when `more` requests were taken from now on."""
        aim, deadline = self.answered() + more, time.monotonic() + seconds
        while self.answered() < aim:
            assert time.monotonic() < deadline, (self.statuses, self.failures[:3])
            assert not self.failures, self.failures[:3]
            time.sleep(0.005)

    # --- what a client does

    def _run(self, is_recorder: bool) -> None:
        with httpx2.Client(timeout=self._timeout_s, trust_env=False) as client:
            try:
                while not self._over.is_set() and len(self.failures) < 20:
                    if is_recorder:
                        self._record(client, self.book.make(self.book.batch_size()))
                    else:
                        self._call(client, self._drawn())
                    time.sleep(0.002)
            except Over:
                pass
            except Exception as error:  # noqa: BLE001 - whatever ends a thread is the test's failure
                self.failures.append(repr(error))

    def _drawn(self) -> Call:
        with self._lock:
            chance, number = self._chance, len(self.calls)
            worst = chance.randint(1, CENT)
            cost = None if chance.random() < 0.2 else chance.randint(0, worst)
            call = Call(f"{self._name}-{number}", worst, cost, chance.random() < 0.2)
            self.calls.append(call)
            return call

    def _record(self, client: httpx2.Client, events: Sequence[dict[str, object]]) -> None:
        self._ask(client, "/v1/ingest", {"events": list(events)}, lambda: {202})
        with self._lock:
            self.book.acknowledged.update(str(one["idempotency_key"]) for one in events)

    def _call(self, client: httpx2.Client, call: Call) -> None:
        body = {"agent": AGENT, "model": "gpt-4o", "amount_usd": text_from_nusd(call.worst),
                "idempotency_key": call.key, "deadline_s": 3600}  # fmt: skip
        status, answer = self._ask(client, "/v1/holds", body, lambda: {200, 201, 402})
        call.is_refused = status == 402
        if call.is_refused:
            self._note(not call.hold, f"{call.key} was granted and then refused")
            return
        self._note(call.hold in {"", answer["id"]}, f"two holds for {call.key}")
        call.hold = str(answer["id"])
        if call.is_extended:
            # One that has ended says so.
            self._ask(client, f"/v1/holds/{call.hold}/extend", {"deadline_s": 7200},
                      lambda: {200, 409} if call.is_ending else {200})  # fmt: skip
        call.is_ending = True
        if call.cost is None:
            self._ask(client, f"/v1/holds/{call.hold}/void", {}, lambda: {200})
        else:
            spent = {"cost_usd": text_from_nusd(call.cost), "idempotency_key": f"s{call.key}"}
            self._ask(client, f"/v1/holds/{call.hold}/settle", spent, lambda: {200})
        call.is_ended = True

    def _ask(
        self, client: httpx2.Client, path: str, body: object, good: Callable[[], set[int]]
    ) -> tuple[int, dict[str, Any]]:
        """Ask until an answer says what became of it; some requests are sent once more after that."""
        again = self._chance.random() < self._twice
        while True:
            begun = time.monotonic()
            try:
                answer = client.post(f"{self._place()}{path}", json=body, headers=self._headers)
            except httpx2.TransportError:
                self._pause()
                continue
            self.told.append(Told(path, answer.status_code, time.monotonic() - begun, answer.text[:500]))
            if answer.status_code in good():
                if again:
                    again = False
                    continue
                return answer.status_code, dict(answer.json())
            if answer.status_code not in BUSY:
                self._note(False, f"{path}: {answer.status_code} {answer.text[:500]}")
                raise Over
            self._pause()

    def _place(self) -> str:
        while not (url := self._pick()):
            self._pause()
        return url

    def _pause(self) -> None:
        if self._over.wait(AGAIN_S):
            raise Over

    def _note(self, is_right: bool, sentence: str) -> None:
        if not is_right:
            self.failures.append(sentence)

    # --- what the ledger must say

    def check(self, database: Database) -> None:
        """Compare with the ledger at any time: nothing acknowledged is missing, nothing passes the limit."""
        with self._lock:
            known = {key_from_text(key) for key in self.book.acknowledged}
            calls = [(call.hold, call.is_ended, call.cost) for call in self.calls]
        recorded = [key for (key,) in database.rows(EVENTS)]
        states = dict(database.rows(HOLDS))
        windows = database.rows(WINDOWS)
        sent = {key_from_text(key) for key in list(self.book.sent)}
        assert len(recorded) == len(set(recorded)), "an event is recorded twice"
        assert known <= set(recorded), f"{len(known - set(recorded))} acknowledged events are lost"
        assert set(recorded) <= sent, "events are recorded that were never sent"
        for hold, is_ended, cost in calls:
            if hold:
                state = states.get(_id(hold))
                assert state is not None, f"{hold} is lost"
                assert not is_ended or state == ("voided" if cost is None else "settled"), (hold, state)
        assert len(states) <= len(self.calls)
        for settled, held in windows:
            assert settled + held <= self.limit

    def finish(self, server: Server) -> None:
        """Ask for everything once more, as clients with buffers do."""
        assert self.failures == [], self.failures[:3]
        self._over.clear()
        self._pick = lambda: server.base_url
        with httpx2.Client(timeout=self._timeout_s, trust_env=False) as client:
            events = list(self.book.sent.values())
            for start in range(0, len(events), 500):
                self._record(client, events[start : start + 500])
            for call in self.calls:
                if not call.is_refused:
                    self._call(client, call)
        assert self.failures == [], self.failures[:3]

    def agree(self, database: Database) -> str:
        """Compare with the ledger to the nano-dollar, prove it, and say what there was."""
        self.check(database)
        settled = [call.cost for call in self.calls if call.hold and call.cost is not None]
        totals = self.book.totals()
        assert database.rows(SUMS) == [(totals.requests + len(settled), totals.cost_nusd + sum(settled))]
        assert database.rows(WINDOWS) == [(sum(settled), 0)]
        assert sum(settled) <= self.limit
        assert database.verify().violations == ()
        held = sum(bool(call.hold) for call in self.calls)
        refused = sum(call.is_refused for call in self.calls)
        return (
            f"{totals.requests} events and {held} holds, {len(settled)} of them settled, {refused} refused;"
            f" answers {dict(sorted(self.statuses.items()))}"
        )


def budgeted(server: Server, limit: int) -> None:
    """Make the one budget that the clients' holds meet."""
    body = {"name": "all", "scope": {"agent": AGENT}, "period": "total", "limit": text_from_nusd(limit)}
    answer = server.post("/v1/budgets", body)
    assert answer.status_code == 201, answer.text
    assert nusd_from_text(answer.json()["limit"]) == limit


def _id(hold: str) -> bytes:
    return bytes.fromhex(hold.partition("_")[2])
