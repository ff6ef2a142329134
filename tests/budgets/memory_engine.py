"""An engine in memory: what storage does around the decisions, with nothing of SQL.

Beside the live book it keeps what a real engine would have on disk: copies of exactly what
`Book.take` said has to be written. `check_stored` compares the two, so a decision that
forgets to have a window written is found.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from bursar.budgets import lease, lifecycle, limits, settlement
from bursar.budgets.amounts import Amounts, worst_case
from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book, Notice, Occasion, Posting
from bursar.budgets.budget import Budget
from bursar.budgets.clock import DecisionClock, Now
from bursar.budgets.gate import Gate, GateKey
from bursar.budgets.hold import DEADLINE_MICROS, GRACE_MICROS, Granted, Hold, Leg, Request
from bursar.budgets.incident import Decision, Incident, opened, resolved, taken_back
from bursar.budgets.matching import BudgetIndex, Call, check_room_for
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Outcome, Settled, Spend
from bursar.budgets.templates import completed, missing
from bursar.budgets.window import Window, WindowKey
from bursar.core.time import MICROS_PER_HOUR, micros_from_text

START = micros_from_text("2026-03-28T20:00:00Z")
HOUR = MICROS_PER_HOUR
CALL = Call("a")

Result = TypeVar("Result")


def numbered(number: int) -> bytes:
    return number.to_bytes(16, "big")


def cost(nusd: int | None, *, tokens: int = 0) -> Amounts:
    return worst_case(nusd, input_tokens=0, max_output_tokens=tokens, deadline_ms=1_000)


class Engine:
    def __init__(self, *budgets: Budget) -> None:
        self.budgets: dict[bytes, Budget] = {}
        self.clock = DecisionClock()
        self.wall = START
        self.monotonic = 0
        self.postings: list[Posting] = []
        self.notices: list[Notice] = []
        self.stored: dict[object, object] = {}
        self.drawn: set[bytes] = set()
        self.stored_gates: dict[GateKey, Gate] = {}
        self.deleted: set[bytes] = set()
        self.incidents: list[Incident] = []
        self.raised: dict[bytes, int] = {}
        self._numbers = 0
        self.index = BudgetIndex(())
        self.book = Book({}, is_complete=True)
        for budget in budgets:
            self.create(budget)

    # --- time and numbers

    def now(self) -> Now:
        return self.clock.read(self.wall, self.monotonic)

    def advance(self, micros: int) -> None:
        self.wall += micros
        self.monotonic += micros

    def number(self) -> bytes:
        self._numbers += 1
        return numbered(self._numbers)

    # --- commits

    def commit(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        finally:
            self._keep_gates()
            writes = self.book.take()
            self.postings += writes.postings
            self.notices += writes.notices
            for notice in writes.notices:
                if notice.occasion is Occasion.INCIDENT:
                    incident_id = numbered(len(self.incidents))
                    self.incidents.append(opened(incident_id, notice, self.clock.last))
            for window in writes.windows:
                self.stored[window.key] = msgspec.structs.replace(window)
            for hold in writes.holds:
                lease_state = hold.lease and msgspec.structs.replace(hold.lease)
                self.stored[hold.id] = msgspec.structs.replace(hold, lease=lease_state)

    def flush_gates(self) -> None:
        """Write the gates that a test itself has changed."""
        self._keep_gates()

    def _keep_gates(self) -> None:
        self.stored_gates |= self.book.gates.changed
        self.book.gates.changed = {}

    def restart(self) -> None:
        """Die, and come back with what was written: whatever was not committed is gone."""
        self.book = Book(self.index.terms, is_complete=True)
        for gate in self.stored_gates.values():
            self.book.gates.load(gate)
        tracks: dict[tuple[bytes, str], list[Window]] = defaultdict(list)
        for row in self.stored.values():
            if isinstance(row, Window):
                tracks[row.key[:2]].append(msgspec.structs.replace(row))
            elif isinstance(row, Hold):
                lease_state = row.lease and msgspec.structs.replace(row.lease)
                self.book.load_hold(msgspec.structs.replace(row, lease=lease_state))
        for key, windows in tracks.items():
            self.book.load_track(key, windows)
        self.clock.monotonic = None

    def check_stored(self) -> None:
        windows = {w.key: w for track in self.book.tracks.values() for w in track.windows}
        assert self.stored == windows | self.book.holds
        assert windows == self.book.windows

    # --- budgets

    def create(self, budget: Budget) -> None:
        check_room_for(budget, list(self.budgets.values()))
        self.replace(budget)

    def replace(self, budget: Budget) -> None:
        self.budgets[budget.id] = budget
        self._reindex()

    def complete(self, call: Call) -> None:
        """Give the call's agent the budgets that templates owe it."""
        owed = missing(self.index, [call])
        done = completed(self.index, owed, owed.keys() & (self.deleted | self.budgets.keys()))
        for notice in done.skipped:
            if notice not in self.notices:
                self.notices.append(notice)
        for budget in done.made:
            self.replace(budget)

    def delete(self, budget: Budget) -> None:
        self.deleted.add(budget.id)
        self.commit(lambda: limits.delete(self.book, budget))
        del self.budgets[budget.id]
        self._reindex()

    def change_limit(self, budget_id: bytes, limit: int) -> None:
        budget = self.budgets[budget_id]
        self.replace(self.commit(lambda: limits.change_limit(self.book, budget, limit, self.now())))

    def move_zone(self, budget_id: bytes, zone: str) -> None:
        budget = self.budgets[budget_id]
        self.replace(self.commit(lambda: limits.move_zone(self.book, budget, zone, self.now())))

    def _reindex(self) -> None:
        self.index = BudgetIndex(self.budgets.values())
        self.book.terms = self.index.terms

    # --- holds

    def request(
        self, amounts: Amounts, call: Call = CALL, *, key: bytes | None = None, digest: bytes = b"d"
    ) -> Request:
        number = self.number()
        return Request(hold_id=number, key=key or number, digest=digest, call=call, amounts=amounts)

    def ask(self, request: Request) -> Granted | Refused | Stopped:
        if request.key not in self.book.hold_ids:
            self.complete(request.call)
        matched = self.index.matching(request.call)
        return self.commit(lambda: authorise(self.book, request, matched, self.now()))

    def hold(self, amounts: Amounts, call: Call = CALL) -> Hold:
        answer = self.ask(self.request(amounts, call))
        assert isinstance(answer, Granted), answer
        return answer.hold

    def settle(self, hold: Hold, amounts: Amounts, *, key: bytes | None = None) -> Settled:
        spend = Spend(key or hold.key, hold.call, amounts, self.wall)
        self.complete(hold.call)
        matched = self.index.matching(hold.call)
        return self.commit(lambda: settlement.settle(self.book, hold, spend, matched, self.now()))

    def void(self, hold: Hold, *, by_operator: bool = False) -> None:
        self.commit(lambda: lifecycle.void(self.book, hold, self.now(), by_operator=by_operator))

    def extend(self, hold: Hold, deadline: int) -> None:
        self.commit(lambda: lifecycle.extend(self.book, hold, deadline, self.now()))

    def post(self, amounts: Amounts, call: Call = CALL, *, at: int | None = None) -> Spend:
        spend = Spend(self.number(), call, amounts, self.wall if at is None else at)
        self.complete(call)
        matched = self.index.matching(call)
        self.commit(lambda: settlement.post(self.book, spend, matched, self.now()))
        return spend

    def correct(self, source: bytes, old: Amounts, new: Amounts) -> None:
        keys = {key for p in self.postings if p.source == source for key, _ in p.parts}
        self.commit(lambda: settlement.correct(self.book, source, sorted(keys), self.now(), old=old, new=new))

    def run_jobs(self) -> None:
        """What runs each minute: expiry, the end of suspense, the end of windows."""
        now = self.now()

        def work() -> None:
            for hold in list(self.book.holds.values()):
                lifecycle.expire(self.book, hold, now)
                lifecycle.end_suspense(self.book, hold, now)
            self._take_back(now)
            limits.close_due(self.book, list(self.book.windows.values()), now)

        self.commit(work)

    def resolve(self, place: int, decision: Decision) -> Incident:
        """Decide the incident at a place of `incidents`."""
        incident = self.incidents[place]
        decided = self.commit(lambda: resolved(self.book, incident, decision, self.now().at))
        self.incidents[place] = decided
        self.raised[incident.id] = decision.limit
        return decided

    def _take_back(self, now: Now) -> None:
        # The longest overdue first: it may change what a later one comes down to.
        for place in sorted(range(len(self.incidents)), key=lambda place: self.incidents[place].until or 0):
            incident = self.incidents[place]
            is_over = incident.until is not None and incident.until <= now.trusted
            if is_over and incident.ended_at is None:
                window = self.book.windows[incident.window]
                if window.limit == self.raised[incident.id] and not window.is_past(now.trusted):
                    taken_back(self.book, incident)
                self.incidents[place] = msgspec.structs.replace(incident, ended_at=now.at)
                for at, other in enumerate(self.incidents):
                    stands = other.until is not None and other.ended_at is None
                    is_later = stands and other.limit_before == self.raised[incident.id]
                    if is_later and other.window == incident.window:
                        self.incidents[at] = msgspec.structs.replace(
                            other, limit_before=incident.limit_before
                        )

    def lapse(self) -> None:
        """Let every open hold's time pass."""
        self.advance(DEADLINE_MICROS + GRACE_MICROS)
        self.run_jobs()

    # --- leases

    def acquire(
        self, demand: lease.Demand, call: Call = CALL, *, nonce: bytes = b"n", key: bytes | None = None
    ) -> Granted | Refused | Stopped:
        number = self.number()
        request = lease.LeaseRequest(
            hold_id=number,
            key=key or number,
            digest=b"l",
            call=call,
            nonce=nonce,
            demand=demand,
            ttl=HOUR // 2,
        )
        return self.lease_of(request)

    def lease_of(self, request: lease.LeaseRequest) -> Granted | Refused | Stopped:
        if request.key not in self.book.hold_ids:
            self.complete(request.call)
        matched = self.index.matching(request.call)
        return self.commit(lambda: lease.acquire(self.book, request, matched, self.now()))

    def draw(self, hold: Hold, spend: Spend) -> Outcome | None:
        """Post one call of a lease's journal, unless its key was there before."""
        if spend.key in self.drawn:
            return None
        self.drawn.add(spend.key)
        self.complete(hold.call)
        matched = self.index.matching(hold.call)
        return self.commit(lambda: lease.spend_from_lease(self.book, hold, spend, matched, self.now()))

    def report(self, hold: Hold, sent: lease.Report) -> lease.Reported:
        self.complete(hold.call)
        matched = self.index.matching(hold.call)
        return self.commit(lambda: lease.report(self.book, hold, sent, matched, self.now()))

    # --- looking

    def window(self, budget_id: bytes, member: str = "") -> Window:
        """The latest window of a track."""
        latest = self.book.tracks[budget_id, member].latest
        assert latest is not None
        return latest

    def legs(self) -> dict[WindowKey, list[Leg]]:
        found: dict[WindowKey, list[Leg]] = defaultdict(list)
        for hold in self.book.holds.values():
            for leg in hold.legs:
                found[leg.window].append(leg)
        return found

    def posted(self) -> Counter[WindowKey]:
        sums: Counter[WindowKey] = Counter()
        for posting in self.postings:
            for key, amount in posting.parts:
                sums[key] += amount
        return sums

    def heard(self, occasion: str) -> list[Notice]:
        return [notice for notice in self.notices if notice.occasion == occasion]


class LeaseClient:
    """The client's half of a lease, by the book: spends only by its own clock and rest."""

    def __init__(self, engine: Engine, hold: Hold, sent_at: int, nonce: bytes = b"n") -> None:
        assert hold.lease is not None
        self.engine = engine
        self.id = hold.id
        self.nonce = nonce
        self.ttl = hold.lease.ttl
        self.rest = {leg.column: leg.held for leg in hold.legs}
        self.until = sent_at + self.ttl - self.ttl // 1_000
        self.journal: list[Spend] = []
        self.acknowledged = 0
        self.reports = 0
        self.is_stopped = False

    def spend(self, worst: Amounts, actual: Amounts) -> bool:
        if self.is_stopped or self.engine.monotonic >= self.until:
            return False
        if any((worst[column] or 0) > rest for column, rest in self.rest.items()):
            return False
        for column in self.rest:
            self.rest[column] -= actual[column] or 0
        self.write(actual)
        return True

    def write(self, actual: Amounts) -> None:
        """Add a call to the journal, whatever the rest is."""
        self.journal.append(Spend(self.engine.number(), CALL, actual, self.engine.wall))

    def report_of(
        self, demand: lease.Demand | None = None, *, is_final: bool = False, gives: int = 0
    ) -> lease.Report:
        """Make the next report; what it gives back is not the client's any more, heard or not."""
        given = Amounts(*(min(gives, self.rest.get(column, 0)) for column in range(6)))
        for column in self.rest:
            self.rest[column] -= given[column] or 0
        self.reports += 1
        return lease.Report(
            nonce=self.nonce, number=self.reports, give_back=given, demand=demand, is_final=is_final
        )

    def send(self, sent: lease.Report, entries: Sequence[Spend]) -> lease.Reported:
        """Have the server hear a report and the calls that came with it, perhaps again."""
        hold = self.engine.book.holds[self.id]
        if self.nonce == (hold.lease and hold.lease.nonce):
            for entry in entries:
                self.engine.draw(hold, entry)
        return self.engine.report(hold, sent)

    def heartbeat(
        self, demand: lease.Demand | None = None, *, is_final: bool = False, gives: int = 0
    ) -> lease.Reported:
        sent_at = self.engine.monotonic
        sent = self.report_of(demand, is_final=is_final, gives=gives)
        answer = self.send(sent, self.journal[self.acknowledged :])
        self.take(answer, sent_at)
        self.is_stopped = self.is_stopped or is_final
        return answer

    def take(self, answer: lease.Reported, sent_at: int) -> None:
        """Believe an answer to a report of all of the journal."""
        self.acknowledged = len(self.journal)
        self.is_stopped = answer.stopped is not None
        if answer.is_renewed:
            self.until = sent_at + self.ttl - self.ttl // 1_000
            self.rest = {leg.column: leg.held for leg in answer.hold.legs}
