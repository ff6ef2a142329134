"""Prove postings one by one, and add up what they put into each window of a budget (I1, I7, I10).

A posting names a hold or an event; a source has one settlement and, after it, corrections only. Not
here: the windows that must show these sums (`verify_windows`), holds (`verify_holds`).
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from bursar.budgets.book import Effect
from bursar.budgets.window import WindowKey
from bursar.ledger.verification import Findings
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.verify_ports import Row
from bursar.storage.sql.verify_scope import TIME_MAX, Scope

_CHECK = "postings"
_ROWS = """SELECT p.source, p.part, p.effect, p.at, p.parts,
        EXISTS (SELECT 1 FROM hold h WHERE h.org = p.org AND h.id = p.source)
            OR EXISTS (SELECT 1 FROM event_key k WHERE k.org = p.org AND k.key = p.source),
        p.part = 0 OR EXISTS (SELECT 1 FROM posting q
            WHERE q.org = p.org AND q.source = p.source AND q.part = p.part - 1)
    FROM posting p"""
_BY_TIME = f"{_ROWS} INDEXED BY posting_by_time WHERE p.org = ?1"
ALL = f"{_ROWS} WHERE p.org = ?1"
BETWEEN = f"{_BY_TIME} AND p.at > ?2 AND p.at <= ?3 ORDER BY p.at"
"""Postings after one time and up to another, oldest first."""
OF_SOURCE = f"{_ROWS} WHERE p.org = ?1 AND p.source = ?2"


class Sum(msgspec.Struct, gc=False):
    """What postings did to one window.

    Attributes:
        settled: All of it.
        gained: Without what corrections took out again: no list of excess can be longer.
        corrected: What corrections added, all of which counts as unheld.
    """

    settled: int = 0
    gained: int = 0
    corrected: int = 0


Sums = dict[WindowKey, Sum]


def all_windows(_key: WindowKey) -> bool:
    """Leave no window out."""
    return True


def add(
    scope: Scope,
    found: Iterable[Row],
    sums: Sums,
    *,
    decided_at: int,
    is_kept: Callable[[WindowKey], bool] = all_windows,
) -> Iterator[tuple[bytes, int, bool]]:
    """Check each posting and add it to `sums`; give the source and time of each, and whether it is sound.

    Args:
        scope: The organisation.
        found: Rows of this module's statements.
        sums: By window; grows.
        decided_at: The last time by which anything was decided.
        is_kept: Which windows to add up.
    """
    count = 0
    findings = scope.findings
    for source, part, effect, at, packed, is_known, follows in found:
        count += 1
        before = findings.violations_count
        if not is_known:
            _differs(scope, source, part, "source", expected="a hold or an event", found=None)
        if not follows:
            _differs(scope, source, part, "part", expected="a part before it", found=None)
        if (effect == Effect.CORRECTED) is (part == 0):
            wanted = "a settlement" if part == 0 else Effect.CORRECTED.value
            _differs(scope, source, part, "effect", expected=wanted, found=effect)
        if at > decided_at:
            _differs(scope, source, part, "at", expected=f"at most {decided_at}", found=at)
        _add_parts(scope, (source, part, effect), packed, sums, is_kept)
        yield source, at, findings.violations_count == before
    findings.checked(_CHECK, count)


def of_budget(scope: Scope, since: int, budget: bytes) -> Iterable[Row]:
    """Return the postings from a time on that name a budget's id."""
    names_it = scope.connection.dialect.contains("p.parts", "?3")
    return scope.stream(f"{_BY_TIME} AND p.at >= ?2 AND {names_it}", since, budget)


def summed(scope: Scope, found: Iterable[Row], is_kept: Callable[[WindowKey], bool]) -> Sums:
    """Return what postings add up to, without checking them."""
    sums: Sums = {}
    unchecked = scope._replace(findings=Findings())
    for _ in add(unchecked, found, sums, decided_at=TIME_MAX, is_kept=is_kept):
        pass
    return sums


def _add_parts(
    scope: Scope,
    posting: tuple[bytes, int, str],
    packed: bytes,
    sums: Sums,
    is_kept: Callable[[WindowKey], bool],
) -> None:
    source, part, effect = posting
    try:
        parts = rows.parts_of(packed)
    except msgspec.MsgspecError:
        _differs(scope, source, part, "parts", expected="windows and amounts", found=packed)
        return
    for key, amount in parts:
        if amount < 0 and effect != Effect.CORRECTED:
            _differs(scope, source, part, "parts", expected="no amount below 0", found=amount)
        if is_kept(key):
            total = sums.get(key)
            if total is None:
                total = sums[key] = Sum()
            total.settled += amount
            total.gained += max(0, amount)
            total.corrected += max(0, amount) if effect == Effect.CORRECTED else 0


def _differs(scope: Scope, source: bytes, part: int, name: str, *, expected: object, found: object) -> None:
    key = f"source={source.hex()}, part={part}: {name}"
    scope.differs(_CHECK, "posting", key, expected=expected, found=found)
