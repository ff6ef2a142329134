"""The auditor of a running server: what was touched lately, and a slice of the rest.

Each run reads on a connection and in a thread of its own, so that neither the event loop nor
a writer waits. Each range is proved on one snapshot, and so are the totals; between ranges and
organisations the snapshot is renewed, so that a write-ahead log can be folded back, and rows
that nobody sees any more can be cleared away. Three marks per
organisation remember how far it came: the last batch whose hours were proved, and the
beginning and position of the current round. A round proves every hour and then the totals
within `ROUND_MICROS`.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from bursar.core.errors import Unavailable
from bursar.core.time import MICROS_PER_HOUR, MICROS_PER_MINUTE
from bursar.ledger.verification import Findings, VerifyReport, Violation
from bursar.storage.sql import verify_names, verify_rows, verify_sums
from bursar.storage.sql.ports import Store, Transaction
from bursar.storage.sql.verify import ROWS, check_range, check_whole, gather
from bursar.storage.sql.verify_ports import Snapshot, Snapshots
from bursar.storage.sql.verify_rounds import BudgetAudit
from bursar.storage.sql.verify_scope import TIME_MAX, TIME_MIN, Scope

ROUND_MICROS = 20 * MICROS_PER_HOUR
"""Time for one round: short of a day, so that a restart still leaves everything proved daily."""

BATCHES_AT_ONCE = 1_000
"""Batches whose hours are gathered before they are proved and the mark moves on."""

SHARE_MAX = 10
"""At most a tenth of an organisation's time at once, however long the server was away."""

PAUSE_FACTOR = 10
"""After a run the auditor rests this many times as long: it takes a tenth of one core at most."""

SAMPLE = 11
"""Costs of one row in so many are worked out again; another share each minute."""

FAULTY_MAX = 100
"""Faulty ranges that are looked at again each run."""

_TOUCHED = "SELECT seq, hours FROM batch WHERE org = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
_BETWEEN = "SELECT 1 FROM event WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3 LIMIT 1"
_MARKS = "SELECT name, value FROM audit_mark WHERE org = ?1"
_SET_MARK = """INSERT INTO audit_mark (org, name, value) VALUES (?, ?, ?)
    ON CONFLICT (org, name) DO UPDATE SET value = excluded.value"""
# One seek each: `min` and `max` in one SELECT would read every row.
_SPAN = """SELECT min(at), max(at) FROM (
    SELECT min(hour) AS at FROM rollup_agent WHERE org = ?1
    UNION ALL SELECT max(hour) FROM rollup_agent WHERE org = ?1
    UNION ALL SELECT min(occurred_at) FROM event WHERE org = ?1
    UNION ALL SELECT max(occurred_at) FROM event WHERE org = ?1
    UNION ALL SELECT min(occurred_at) FROM entry WHERE org = ?1
    UNION ALL SELECT max(occurred_at) FROM entry WHERE org = ?1) AS r"""


class _Marks(NamedTuple):
    """How far an organisation is proved: batch number, round's beginning, position in it."""

    batch: int
    round_began: int
    position: int


class SqlAuditor:
    """`ledger.ports.LedgerAuditor`: reads by `snapshots`, keeps its marks by `store`.

    `clock` gives microseconds UTC.
    """

    def __init__(self, snapshots: Snapshots, store: Store, clock: Callable[[], int]) -> None:
        self._snapshots = snapshots
        self._store = store
        self._clock = clock
        self._faulty: dict[tuple[int, int, int], None] = {}
        self._totals: dict[int, tuple[Violation, ...]] = {}
        self._budgets: dict[int, BudgetAudit] = {}
        self._stopped = threading.Event()
        self._last = Findings().report()
        self._rest_until = 0

    async def audit(self) -> VerifyReport:
        """Prove the next part; see the protocol. Ends early, without marks, when cancelled."""
        now = self._clock()
        if now < self._rest_until:
            return self._last
        self._stopped.clear()
        try:
            report, marks = await asyncio.to_thread(self._read, now)
        except asyncio.CancelledError:
            self._stop()
            raise
        # Without room for the marks the same part is proved again; what was found must be told.
        with suppress(Unavailable):
            if marks:
                await self._store.transact(lambda transaction: _set_marks(transaction, marks))
        ended = self._clock()
        self._last, self._rest_until = report, ended + PAUSE_FACTOR * (ended - now)
        return report

    def _stop(self) -> None:
        """Make the reading thread end soon: at its next row or range."""
        self._stopped.set()
        self._snapshots.interrupt()

    def _read(self, now: int) -> tuple[VerifyReport, dict[int, _Marks]]:
        findings = Findings()
        marks = self._snapshots.read(lambda snapshot: self._prove_all(snapshot, findings, now), findings)
        for violations in self._totals.values():
            for violation in violations:
                findings.add(violation)
        return findings.report(), marks or {}

    def _prove_all(self, snapshot: Snapshot, findings: Findings, now: int) -> dict[int, _Marks]:
        """Prove each organisation's part; return the marks that moved."""
        marks: dict[int, _Marks] = {}
        for org in verify_names.organisations(snapshot, findings):
            if self._stopped.is_set():
                break
            snapshot.renew()
            scope = Scope(snapshot.connection, org, findings)
            before = _marks_of(scope, now)
            after = self._prove(snapshot, scope, before, now)
            if after != before or scope.rows(_MARKS).fetchone() is None:
                marks[org] = after
        return marks

    def _prove_budgets(self, scope: Scope, now: int) -> None:
        """Prove what was touched of budgets, and a slice; what was cut short begins anew."""
        audit = self._budgets.pop(scope.org, None) or BudgetAudit(self._stopped.is_set)
        audit.check(scope, now)
        self._budgets[scope.org] = audit

    def _prove(self, snapshot: Snapshot, scope: Scope, marks: _Marks, now: int) -> _Marks:
        """Prove one organisation's part; return how far it is now."""
        rest = now // MICROS_PER_MINUTE % SAMPLE
        proof = _Proof(snapshot, scope, self._stopped, self._faulty, rest=rest)
        for org, start, end in list(self._faulty):
            if org == scope.org:
                del self._faulty[org, start, end]
                proof.check(start, end)
        batch = proof.check_touched(marks.batch)
        self._prove_budgets(scope, now)
        first, last = _span(scope)
        position = max(marks.position, first)
        end = _slice_end(marks.round_began, position, (first, last), now)
        proof.check(position, end)
        if end < last:
            return marks._replace(batch=batch, position=end)
        self._totals[scope.org] = proof.check_totals()
        return _Marks(batch, now, TIME_MIN)


class _Proof:
    """The checks of one organisation in one run; ranges found faulty are remembered."""

    def __init__(
        self,
        snapshot: Snapshot,
        scope: Scope,
        stopped: threading.Event,
        faulty: dict[tuple[int, int, int], None],
        *,
        rest: int,
    ) -> None:
        self._snapshot = snapshot
        self._scope = scope
        self._stopped = stopped
        self._faulty = faulty
        self._rules = verify_rows.load_rules(scope)._replace(one_in=SAMPLE, rest=rest)

    def check(self, first: int, last: int) -> None:
        """Prove the whole hours from `first` to `last`, each range for itself."""
        for start, end in self._ranges(first, last):
            before = self._scope.findings.report().violations_count
            check_range(self._snapshot, self._scope, start, end, self._rules)
            verify_rows.check_keys(self._scope, start, end)
            if self._scope.findings.report().violations_count > before and len(self._faulty) < FAULTY_MAX:
                self._faulty[self._scope.org, start, end] = None
            self._snapshot.renew()

    def check_touched(self, mark: int) -> int:
        """Prove the hours of all batches after `mark`; return the last batch proved."""
        while not self._stopped.is_set():
            batches = self._scope.rows(_TOUCHED, mark, BATCHES_AT_ONCE).fetchall()
            if not batches:
                break
            hours = {hour for number, text in batches for hour in self._hours(number, text)}
            for start, end in self._stretches(hours):
                self.check(start, end)
            mark = batches[-1][0]
        return mark

    def _stretches(self, hours: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Give the stretches of time that hours make up, in order; those with no event between are one.

        A stretch is proved by some forty statements, however short it is, and a server that was
        just moved has thousands of hours to prove.
        """
        start = end = None
        for hour in sorted(hours):
            if start is None or end is None:
                start = hour
            elif hour > end and self._scope.rows(_BETWEEN, end, hour).fetchone() is not None:
                yield start, end
                start = hour
            end = hour + MICROS_PER_HOUR
        if start is not None and end is not None:
            yield start, end

    def _hours(self, number: int, text: str) -> list[int]:
        """Return the hours that a batch names; damage must not end the audit."""
        try:
            return msgspec.json.decode(text, type=list[int])
        except msgspec.DecodeError:
            self._scope.differs("batches", "batch", f"seq={number}", expected="hours as JSON", found=text)
            return []

    def check_totals(self) -> tuple[Violation, ...]:
        """Prove what only the whole shows; return the violations, which stand until the next round."""
        findings = Findings()
        scope = self._scope._replace(findings=findings)
        for start, end in self._ranges(TIME_MIN, TIME_MAX):
            gather(self._snapshot, scope, start, end)
        if not self._stopped.is_set():
            check_whole(self._snapshot, scope)
        return findings.report().violations

    def _ranges(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        for start, end in verify_sums.ranges(self._scope, ROWS, first, last):
            if self._stopped.is_set():
                return
            yield start, end


def _marks_of(scope: Scope, now: int) -> _Marks:
    found = dict(map(tuple, scope.rows(_MARKS)))
    return _Marks(found.get("batch", 0), found.get("round", now), found.get("position", TIME_MIN))


async def _set_marks(transaction: Transaction, marks: dict[int, _Marks]) -> None:
    rows = [
        (org, name, value)
        for org, mark in marks.items()
        for name, value in zip(("batch", "round", "position"), mark, strict=True)
    ]
    transaction.everywhere.executemany(_SET_MARK, rows)


def _span(scope: Scope) -> tuple[int, int]:
    """Return the first hour with anything in it and the end of the last one; equal when empty."""
    first, last = scope.rows(_SPAN).fetchone()
    if first is None:
        return 0, 0
    return first - first % MICROS_PER_HOUR, last - last % MICROS_PER_HOUR + MICROS_PER_HOUR


def _slice_end(began: int, position: int, span: tuple[int, int], now: int) -> int:
    """Return how far a round that began at `began` should have come by `now`, in whole hours."""
    first, last = span
    due = first + (last - first) * min(max(now - began, 0), ROUND_MICROS) // ROUND_MICROS
    most = position + max((last - first) // SHARE_MAX, MICROS_PER_HOUR)
    end = min(due, most)
    return min(max(end - end % MICROS_PER_HOUR, position), last)
