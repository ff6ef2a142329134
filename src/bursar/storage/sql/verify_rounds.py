"""Prove everything about an organisation's budgets once a day, a slice at each audit.

    holds by id, slice by slice  →  postings by time, slice by slice  →  all windows, on one snapshot

A round may span many snapshots: holds are proved one by one, and postings are only ever added, at times
that never go back, so the sum of a slice stays true. The last slice, the open legs and the windows
are read on one snapshot. Rounds begin anew with the process. Memory holds one sum per window, of at
most `WINDOWS_MAX` of them: with more, each round proves one part of them, and comes so much earlier.
"""

from collections.abc import Callable
from zlib import crc32

from bursar.budgets.window import WindowKey
from bursar.core.time import MICROS_PER_HOUR
from bursar.ledger.verification import Findings, Violation
from bursar.storage.sql import verify_budgets, verify_holds, verify_postings, verify_windows
from bursar.storage.sql.verify_postings import Sums
from bursar.storage.sql.verify_recent import RecentBudgets
from bursar.storage.sql.verify_scope import TIME_MAX, TIME_MIN, Scope
from bursar.storage.sql.verify_windows import Held

ROUND_MICROS = 20 * MICROS_PER_HOUR
"""From the beginning of one round to that of the next."""

SLICE_MIN = 20_000
"""Holds or postings proved at one audit: some 100 ms."""

SLICES = 1_000
"""Where there are more: a slice is so large that a round has about this many, one a minute."""

WINDOWS_MAX = 500_000
"""Sums in memory: some 150 MB."""

SHOWN_MAX = 1_000
"""Violations of one check that stand beside each other."""

_COUNT = """SELECT (SELECT count(*) FROM hold WHERE org = ?1), (SELECT count(*) FROM posting WHERE org = ?1),
    (SELECT count(*) FROM budget_window WHERE org = ?1)"""
_HOLDS_END = """SELECT id FROM (SELECT id FROM hold WHERE org = ?1 AND id > ?2 ORDER BY id LIMIT ?3) AS r
    ORDER BY id DESC LIMIT 1"""
_POSTINGS_END = """SELECT at FROM posting INDEXED BY posting_by_time
    WHERE org = ?1 AND at > ?2 ORDER BY at LIMIT 1 OFFSET ?3"""
_NEWEST = "SELECT max(at) FROM posting INDEXED BY posting_by_time WHERE org = ?1"


class BudgetRound:
    """One round as far as it has come. `number` says which part of very many windows it proves."""

    def __init__(
        self, scope: Scope, number: int, *, slice_min: int = SLICE_MIN, windows_max: int = WINDOWS_MAX
    ) -> None:
        holds, postings, windows = scope.rows(_COUNT).fetchone()
        self.findings = Findings(SHOWN_MAX)
        self.parts = int(windows) // windows_max + 1
        self._part = number % self.parts
        self._rows = max(slice_min, (holds + postings) // SLICES)
        self._holds_after: bytes | None = b""
        self._postings_after = TIME_MIN
        self._sums: Sums = {}

    def step(self, scope: Scope) -> bool:
        """Prove the next slice; tell whether the round is complete."""
        scope = scope._replace(findings=self.findings)
        if self._holds_after is not None:
            self._holds_after = self._prove_holds(scope, self._holds_after)
            if self._holds_after is not None:
                return False
        found = scope.rows(_POSTINGS_END, self._postings_after, self._rows).fetchone()
        end = None if found is None or found[0] == scope.rows(_NEWEST).fetchone()[0] else found[0]
        self._add_postings(scope, TIME_MAX if end is None else end)
        if end is not None:
            self._postings_after = end
            return False
        self._prove_windows(scope)
        return True

    def _prove_holds(self, scope: Scope, after: bytes) -> bytes | None:
        found = scope.rows(_HOLDS_END, after, self._rows).fetchone()
        if found is None:
            return None
        end: bytes = found[0]
        count = sum(1 for _ in verify_holds.check(scope, scope.stream(verify_holds.BETWEEN, after, end)))
        return end if count >= self._rows else None

    def _add_postings(self, scope: Scope, end: int) -> None:
        found = scope.stream(verify_postings.BETWEEN, self._postings_after, end)
        decided_at = verify_windows.decided_at(scope)
        for _ in verify_postings.add(scope, found, self._sums, decided_at=decided_at, is_kept=self._is_kept):
            pass

    def _prove_windows(self, scope: Scope) -> None:
        held: dict[WindowKey, Held] = {}
        unchecked = scope._replace(findings=Findings())
        for sql in (verify_holds.OPEN, verify_holds.SUSPENDED):
            found = verify_holds.check(unchecked, scope.stream(sql))
            verify_windows.held_by((hold for _, hold, _ in found if hold is not None), held)
        rules = verify_windows.load_rules(scope)
        verify_budgets.check_windows(scope, rules, self._sums, held, self._is_kept)

    def _is_kept(self, key: WindowKey) -> bool:
        return self.parts == 1 or crc32(repr(key).encode()) % self.parts == self._part


class BudgetAudit:
    """One organisation's budgets: what was touched, at each audit, and a slice of a round.

    Args:
        stopped: Tells that the audit is to end soon.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._recent = RecentBudgets()
        self._round: BudgetRound | None = None
        self._rounds = 0
        self._due_at = TIME_MIN
        self._standing: tuple[Violation, ...] = ()

    def check(self, scope: Scope, now: int) -> None:
        """Prove the next part on one snapshot; what a round found stands until the next one is done."""
        found = Findings(SHOWN_MAX)
        self._recent.check(scope._replace(findings=found))
        current: tuple[Violation, ...] = ()
        if self._round is None and now >= self._due_at:
            self._round = BudgetRound(scope, self._rounds)
            self._rounds += 1
            self._due_at = now + ROUND_MICROS // self._round.parts
        if self._round is not None and not self._stopped():
            is_complete = self._round.step(scope)
            current = self._round.findings.report().violations
            if is_complete:
                self._standing, self._round = current, None
                if current:
                    self._due_at = now  # looked at again at once, so that a cure is seen
        report = found.report()
        for check in report.checks:
            scope.findings.checked(check.name, check.checked)
        for violation in dict.fromkeys((*report.violations, *self._standing, *current)):
            scope.findings.add(violation)
