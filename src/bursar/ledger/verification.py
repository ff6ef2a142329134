"""What a check of the ledger found: values only, for a table, for JSON and for a metric.

    storage reads and compares  →  Findings  →  VerifyReport  →  `bursar ledger verify`, jobs.audit

Every check states one thing that must hold (`CHECKS`); a violation names the row and both
figures. Not here: reading tables (`storage`).
"""

from typing import NamedTuple

CHECKS = {
    "file": "the file itself is whole: its pages, the order of its keys, its indexes",
    "organisations": "every row belongs to an organisation that exists",
    "rollups": "the sum of entries is each hourly roll-up, row by row, histograms included",
    "totals": "the sum of entries is each agent's total",
    "runs": "the sum of entries is each run's total",
    "keys": "each event has its key and each key its event",
    "revisions": "a key's revision is that of its last correction",
    "corrections": "each reversal equals what stood before it and is followed by what replaced it",
    "batches": "batches account for every event, entry and hour, without a gap",
    "unpriced": "the list of unpriced events is exactly the events that stand without a cost",
    "costs": "the cost that counts is one of the two that are kept, as the flags say",
    "prices": "each computed cost is units × rate of its card, rounded up once",
    "cards": "every rate card referenced exists and is what its digest says",
    "names": "every agent, model, project, feature and user referenced exists",
    "api_keys": "key hashes and keys match, and every key referenced exists",
    "postings": "each posting is of a hold or an event, once besides corrections",
    "holds": "each hold has ended at most once, as its legs and its posting say",
    "windows": "postings and open legs are each budget's counts, its excess is listed, periods tile",
    "logs": "the audit log and the quarantine have no gap",
}
"""Every check by name, in the order of reports, with the sentence that must hold."""

SHOWN_MAX = 20
"""Violations of one check that a report lists; all are counted."""


class Violation(NamedTuple):
    """One thing that does not hold, and where.

    Attributes:
        check: A name of `CHECKS`.
        org: The organisation's number, 0 for the file itself.
        table: Where it was seen.
        key: The row, its key's columns as text.
        expected: What the entries, or the rule, give.
        found: What is stored.
    """

    check: str
    org: int
    table: str
    key: str
    expected: str
    found: str


class Check(NamedTuple):
    """How a check went: rows looked at and violations, all of them counted."""

    name: str
    checked: int
    violations: int


class VerifyReport(NamedTuple):
    """The outcome of a verification: every check, and the first violations of each."""

    checks: tuple[Check, ...]
    violations: tuple[Violation, ...]

    @property
    def violations_count(self) -> int:
        """All violations, listed or not."""
        return sum(check.violations for check in self.checks)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return self.violations_count == 0

    def to_json(self) -> dict[str, object]:
        """Return plain values: `ok`, `checks` and `violations`, names as in the tuples."""
        return {
            "ok": self.ok,
            "violations_count": self.violations_count,
            "checks": [{**check._asdict(), "holds": CHECKS[check.name]} for check in self.checks],
            "violations": [violation._asdict() for violation in self.violations],
        }


class Findings:
    """Collects while a verification runs; bounded, however bad the file is."""

    def __init__(self, shown_max: int = SHOWN_MAX) -> None:
        self._shown_max = shown_max
        self._checked = dict.fromkeys(CHECKS, 0)
        self._counts = dict.fromkeys(CHECKS, 0)
        self._shown: list[Violation] = []
        self._count = 0

    def checked(self, check: str, rows: int) -> None:
        """Add to how many rows a check has looked at."""
        self._checked[check] += rows

    def add(self, violation: Violation) -> None:
        """Count a violation and keep it if it is one of its check's first."""
        self._count += 1
        self._counts[violation.check] += 1
        if self._counts[violation.check] <= self._shown_max:
            self._shown.append(violation)

    @property
    def violations_count(self) -> int:
        """All violations so far."""
        return self._count

    def report(self) -> VerifyReport:
        """Return what was found so far, checks in the order of `CHECKS`."""
        checks = tuple(Check(name, self._checked[name], self._counts[name]) for name in CHECKS)
        order = {name: place for place, name in enumerate(CHECKS)}
        return VerifyReport(checks, tuple(sorted(self._shown, key=lambda one: order[one.check])))
