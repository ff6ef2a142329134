"""The reference client of leases: spends without asking, never above what it was lent.

    LeaseClient.call(worst)  →  Call  →  the provider  →  call.finish(cost)

A check is one lock and two comparisons. A thread reports every heartbeat; the journal lies on
disk before a call is over for its caller, and the next process of the agent sends what a dead one
left. Standard library and an HTTP client only, so that an SDK can grow from it. `docs/leases.md`
is the protocol in words.

Only money is checked here; other metrics' rests are followed in the same way by a client that
needs them.
"""

import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

DRIFT = 1e-3
"""How much slower this process's clock may run than the server's."""

ENTRIES_MAX = 500
TIMEOUT_S = 2.0
_NANO = 1_000_000_000
_clients: "weakref.WeakSet[LeaseClient]" = weakref.WeakSet()


def clock() -> float:
    """Seconds of a clock that never steps and goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def nusd(text: str) -> int:
    return int(Decimal(text) * _NANO)


def usd(amount: int) -> str:
    return f"{Decimal(amount) / _NANO:.9f}"


class Exceeded(Exception):
    """A budget has no room; `problem` says which, and when it resets."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", ""))
        self.problem = problem


class Stopped(Exception):
    """Somebody killed or paused the agent."""


class Unreachable(Exception):
    """The server does not answer and the rest is used up, or its time is."""


class Settings(NamedTuple):
    """What a client is told.

    `mode` is what happens when the server cannot be reached and the lease is used up: `closed` makes
    no call, `safe` spends up to `safe_usd` more, `open` goes on; what is spent so is marked.
    """

    base_url: str
    key: str
    agent: str
    model: str
    folder: Path
    ttl_s: float = 15
    deadline_s: float = 60
    grace_s: float = 60
    heartbeat_s: float = 1
    calls_per_s: float = 10
    mode: str = "closed"
    safe_usd: str = "0"


class Entry(NamedTuple):
    """One call of the journal."""

    sequence: int
    key: str
    cost: int
    at: str

    def body(self) -> dict[str, object]:
        return {
            "sequence": self.sequence,
            "idempotency_key": self.key,
            "cost_usd": usd(self.cost),
            "timestamp": self.at,
        }


class Owed(NamedTuple):
    """What has to reach the server beside a lease: settlements of holds, spend nobody held for."""

    name: str
    path: str
    body: dict[str, Any]


class Journal:
    """One process's calls on disk; whoever holds the file's lock owns it."""

    def __init__(self, folder: Path, instance: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{instance}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def append(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)

    def close(self, *, is_done: bool) -> None:
        """Let go of it; a journal that the server has all of is of no more use."""
        if is_done:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def orphans(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Yield the journals of processes that are gone, each locked while it is looked at."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not path.exists():
                continue
            lines = [line for line in file.read().split(b"\n") if line]
            if lines and not lines[-1].endswith(b"}"):
                lines.pop()  # cut off by a power failure: its call was not over for its caller
            yield path, [json.loads(line) for line in lines]


class Lease:
    """What is known of one lease; all of it is changed under the client's lock."""

    def __init__(self, lease_id: str, instance: str) -> None:
        self.id = lease_id
        self.instance = instance
        self.until = 0.0
        self.rest = 0
        self.in_flight = 0
        self.unreported: list[Entry] = []
        self.sequence = 0
        self.reports = 0
        self.is_recalled = False
        self.is_over = False


class Call:
    """Money set aside for one call; `finish` with what it cost, 0 where it was never made."""

    __slots__ = ("_done", "worst")

    def __init__(self, worst: int, done: Callable[[int], None]) -> None:
        self.worst = worst
        self._done = done

    def finish(self, cost: int) -> None:
        self._done(cost)


class LeaseClient:
    """Spends one agent's budget in one process, from any of its threads.

    `transport` makes how requests are sent, anew in each process: a child must not write into its
    parent's connections.
    """

    def __init__(
        self, settings: Settings, *, transport: Callable[[], httpx2.BaseTransport] | None = None
    ) -> None:
        self.settings = settings
        self._transport = transport
        self._journal: Journal | None = None
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Begin as a process that spends nothing yet: at first, and in the child of a fork."""
        if self._journal is not None:
            self._journal.close(is_done=False)  # the parent's lock is not ours to keep
        self._lock = threading.Lock()
        self._line = threading.Lock()
        self._reporting = threading.Lock()
        self._worst = 0
        self._asking: dict[str, object] | None = None
        self._owed: list[Owed] = []
        self._wake = threading.Event()
        self._end = threading.Event()
        self._lease: Lease | None = None
        self._older: list[Lease] = []
        self._stopped: str | None = None
        self._marked = 0
        self._instance = uuid.uuid4().hex
        self._journal = None
        self._http: httpx2.Client | None = None
        self._thread: threading.Thread | None = None

    # --- the hot path

    def call(self, worst: int) -> Call:
        """Set `worst` nano-USD aside.

        Raises:
            Stopped, Exceeded, Unreachable: Make no call.
        """
        lease = self._lease
        if lease is not None and self.take(lease, worst):
            return Call(worst, lambda cost: self._finish(lease, worst, cost))
        return self._slow_call(worst)

    def take(self, lease: Lease, worst: int) -> bool:
        """The local check."""
        with self._lock:
            if clock() >= lease.until or lease.rest < worst or self._stopped is not None:
                return False
            lease.rest -= worst
            lease.in_flight += worst
            return True

    def _finish(self, lease: Lease, worst: int, cost: int) -> None:
        with self._lock:
            lease.sequence += 1
            entry = Entry(lease.sequence, uuid.uuid4().hex, cost, _now())
        # On disk before the caller goes on; until it is counted, its worst case stays set aside.
        self._write({"lease": lease.id, "instance": lease.instance, **entry.body()})
        with self._lock:
            lease.in_flight -= worst
            lease.rest += worst - cost
            lease.unreported.append(entry)
            is_low = lease.rest < 2 * worst
        if is_low:
            self._wake.set()

    def _write(self, line: dict[str, object]) -> None:
        if self._journal is not None:
            self._journal.append(line)

    # --- when the lease does not do

    def _slow_call(self, worst: int) -> Call:
        with self._line:  # one thread asks; the others find what it got
            self._start()
            self._worst = max(self._worst, worst)
            for _ in range(3):
                self._check_stop()
                lease = self._lease
                if lease is not None and self.take(lease, worst):
                    return Call(worst, lambda cost, lease=lease: self._finish(lease, worst, cost))  # type: ignore[misc]
                try:
                    if lease is None or lease.is_over:
                        if not self._acquire(worst):
                            return self._single(worst)
                    else:
                        self._report(lease)
                        if lease.rest < worst and not lease.is_over:
                            return self._single(worst)
                except (httpx2.TransportError, httpx2.HTTPStatusError):
                    return self._unreachable(worst)
            return self._single(worst)

    def _check_stop(self) -> None:
        if self._stopped is not None and self._lease is not None:
            raise Stopped(self._stopped)
        self._stopped = None  # without a lease nobody tells us of its end: ask

    def _acquire(self, worst: int) -> bool:
        """Get a lease; False where only single holds are left. The same key until there is an answer."""
        s = self.settings
        body = self._asking = self._asking or {
            "idempotency_key": uuid.uuid4().hex,
            "instance": self._instance,
            "agent": s.agent,
            "model": s.model,
            "wants": {"amount_usd": usd(worst)},
            "calls_per_s": s.calls_per_s,
            "ttl_s": s.ttl_s,
            "deadline_s": s.deadline_s,
            "grace_s": s.grace_s,
        }
        sent_at = clock()
        answer = self._post("/v1/leases", body)
        self._asking = None
        if answer.status_code == 402 and answer.json()["reason"] == "single_holds_only":
            return False
        self._raise_refusal(answer)
        told = answer.json()
        lease = Lease(told["id"], self._instance)
        lease.rest = nusd(told["amount_usd"])
        lease.until = sent_at + told["ttl_s"] * (1 - DRIFT)
        with self._lock:
            self._lease = lease
            self._stopped = told["stopped"] and told["stopped"]["state"]
        return True

    def _single(self, worst: int) -> Call:
        """Ask for this one call."""
        s = self.settings
        key = uuid.uuid4().hex
        body = {
            "idempotency_key": key, "agent": s.agent, "model": s.model, "amount_usd": usd(worst),
            "deadline_s": s.deadline_s, "grace_s": s.grace_s,
        }  # fmt: skip
        try:
            answer = self._post("/v1/holds", body)
        except (httpx2.TransportError, httpx2.HTTPStatusError):
            return self._unreachable(worst)
        self._raise_refusal(answer)
        hold = answer.json()["id"]

        def settle(cost: int) -> None:
            self._owe(Owed(hold, f"/v1/holds/{hold}/settle", {"cost_usd": usd(cost)}))
            self._pay()

        return Call(worst, settle)

    def _owe(self, owed: Owed) -> None:
        self._write({"owed": owed._asdict()})
        with self._lock:
            self._owed.append(owed)

    def _pay(self) -> None:
        """Send what has to arrive beside leases; each may come twice without harm."""
        with contextlib.suppress(httpx2.TransportError, httpx2.HTTPStatusError):
            for owed in list(self._owed):
                self._post(owed.path, owed.body)
                with self._lock:
                    if owed in self._owed:
                        self._owed.remove(owed)
                self._write({"paid": owed.name})

    def _unreachable(self, worst: int) -> Call:
        """Do what the mode says; what is spent so is money that nobody held for, and says so."""
        mode = self.settings.mode
        is_allowed = mode == "open" or (
            mode == "safe" and self._marked + worst <= nusd(self.settings.safe_usd)
        )
        if not is_allowed:
            raise Unreachable(self.settings.base_url)
        self._marked += worst

        def mark(cost: int) -> None:
            name = uuid.uuid4().hex
            event = {
                "idempotency_key": name,
                "agent": self.settings.agent,
                "model": self.settings.model,
                "occurred_at": _now(),
                "cost_usd": usd(cost),
                "attributes": {"without_server": mode},
            }
            self._owe(Owed(name, "/v1/events", {"events": [event]}))

        return Call(worst, mark)

    def _raise_refusal(self, answer: httpx2.Response) -> None:
        if answer.status_code == 403:
            with self._lock:
                self._stopped = answer.json()["code"]
            raise Stopped(answer.json()["detail"])
        if answer.status_code == 402:
            raise Exceeded(answer.json())
        answer.raise_for_status()

    # --- reports

    def _start(self) -> None:
        """Open the journal, replay what dead processes left, start the thread; once a process."""
        if self._thread is not None:
            return
        self._journal = Journal(self.settings.folder, self._instance)
        with contextlib.suppress(httpx2.TransportError, httpx2.HTTPStatusError):
            self.replay()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end, wake = self._end, self._wake
        while not end.is_set():
            wake.wait(self.settings.heartbeat_s)
            wake.clear()
            if end.is_set():
                return
            self.heartbeat()

    def heartbeat(self) -> None:
        """Report every lease that has something to say; what cannot be sent waits."""
        self._pay()
        for lease in self._leases():
            with contextlib.suppress(httpx2.TransportError, httpx2.HTTPStatusError):
                self._report(lease)
        self._older = [lease for lease in self._older if lease.unreported or lease.in_flight]

    def _leases(self) -> list[Lease]:
        lease = self._lease
        return [*self._older, *([lease] if lease is not None else [])]

    def _report(self, lease: Lease, *, is_final: bool = False) -> None:
        """Send a report and believe its answer; one at a time, so that an answer is to the last one."""
        with self._reporting:
            with self._lock:
                entries = lease.unreported[:ENTRIES_MAX]
                lease.reports += 1
                given = lease.rest if lease.is_recalled or lease.is_over else 0
                lease.rest -= given  # not ours any more, whether the server hears of it or not
            body: dict[str, object] = {
                "instance": lease.instance,
                "report": lease.reports,
                "entries": [entry.body() for entry in entries],
                "give_back_usd": usd(given),
            }
            has_asked = not (given or is_final or lease.is_over)
            if has_asked:
                wants = {"amount_usd": usd(self._worst)}
                body["needs"] = {"wants": wants, "calls_per_s": self.settings.calls_per_s}
            sent_at = clock()
            answer = self._post(f"/v1/leases/{lease.id}/{'return' if is_final else 'report'}", body)
            if answer.status_code == 409:  # another process spends it: this one has to get its own
                self._drop(lease, len(entries))
                return
            answer.raise_for_status()
            self._believe(lease, answer.json(), len(entries), sent_at, has_asked=has_asked)

    def _believe(
        self, lease: Lease, told: dict[str, Any], reported: int, sent_at: float, *, has_asked: bool
    ) -> None:
        with self._lock:
            lease.unreported = lease.unreported[reported:]
            self._stopped = told["stopped"] and told["stopped"]["state"]
            outstanding = lease.in_flight + sum(entry.cost for entry in lease.unreported)
            if told["state"] != "open":
                lease.is_over, lease.rest = True, 0
            else:
                lease.rest = max(0, nusd(told["amount_usd"]) - outstanding)
                lease.until = max(lease.until, sent_at + told["ttl_s"] * (1 - DRIFT))
                lease.is_recalled = told["recall"]
                # Not prolonged, neither recalled nor stopped: its window is over.
                lease.is_over = has_asked and not (told["renewed"] or told["recall"] or told["stopped"])
            if lease.is_over and lease is self._lease:
                self._lease = None
                self._older.append(lease)

    def _drop(self, lease: Lease, reported: int) -> None:
        with self._lock:
            lease.unreported = lease.unreported[reported:]
            lease.rest, lease.is_over = 0, True
            if lease is self._lease:
                self._lease = None

    # --- beginnings and ends

    def replay(self) -> int:
        """Send the journals of dead processes; return how many calls were in them."""
        count = 0
        for path, lines in orphans(self.settings.folder):
            for lease_id in dict.fromkeys(line["lease"] for line in lines if "lease" in line):
                own = [line for line in lines if line.get("lease") == lease_id]
                for start in range(0, len(own), ENTRIES_MAX):
                    part = own[start : start + ENTRIES_MAX]
                    entries = [{k: v for k, v in e.items() if k not in {"lease", "instance"}} for e in part]
                    # Number 1 was heard long ago: nothing but the calls is taken from it.
                    body = {"instance": part[0]["instance"], "report": 1, "entries": entries}
                    self._post(f"/v1/leases/{lease_id}/report", body).raise_for_status()
                count += len(own)
            paid = {line["paid"] for line in lines if "paid" in line}
            owed = [Owed(**line["owed"]) for line in lines if "owed" in line]
            for one in owed:
                if one.name not in paid:
                    self._post(one.path, one.body)
            count += len(owed)
            path.unlink()
        return count

    def close(self) -> bool:
        """Return the lease and everything that was spent; tell whether the server has it all."""
        self._end.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._pay()
        is_done = not self._owed
        for lease in self._leases():
            try:
                while lease.unreported or not lease.is_over:
                    self._report(lease, is_final=True)
            except (httpx2.TransportError, httpx2.HTTPStatusError):
                is_done = False
        if self._journal is not None:
            self._journal.close(is_done=is_done)
            self._journal = None
        if self._http is not None:
            self._http.close()
        self._begin()
        return is_done

    def _post(self, path: str, body: dict[str, object]) -> httpx2.Response:
        """Post, and raise for our own trouble alike, so that it is sent again."""
        if self._http is None:
            headers = {"Authorization": f"Bearer {self.settings.key}"}
            self._http = httpx2.Client(
                base_url=self.settings.base_url,
                headers=headers,
                timeout=TIMEOUT_S,
                trust_env=False,
                transport=self._transport and self._transport(),
            )
        answer = self._http.post(path, json=body)
        if answer.status_code >= 500 or answer.status_code == 429:
            answer.raise_for_status()
        return answer


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _forget_in_child() -> None:
    """A forked child shares the parent's lease, thread and connection by accident: it has none."""
    for client in _clients:
        client._begin()


os.register_at_fork(after_in_child=_forget_in_child)
