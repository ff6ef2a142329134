"""Prove the windows of budgets: every count has its postings and legs, no excess is unlisted, none overlap.

One pass adds up postings, one the legs that are still open; memory grows with the windows of one
organisation, not with what was spent in them.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from bursar.budgets.window import Window, WindowKey, WindowState
from bursar.storage.sqlite import budget_rows as rows
from bursar.storage.sqlite.verify_scope import Scope, key_text

_CHECK = "windows"
_TABLE = "budget_window"
_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window WHERE org = ?1
    ORDER BY budget, member, starts_at"""
_HARD = "SELECT id FROM budget WHERE org = ?1 AND mode = 'hard'"
_POSTINGS = "SELECT source, parts FROM posting WHERE org = ?1"
_UNRESOLVED = "SELECT id, legs FROM hold WHERE org = ?1 AND state IN ('open', 'suspense')"
_LINES = ("settled", "held", "open_legs")


def check_windows(scope: Scope) -> None:
    """Check every window's counts (I1), its excess (I6, I7) and its place among the others (I11)."""
    settled, held, legs = _posted(scope), Counter[WindowKey](), Counter[WindowKey]()
    for key, amount in _held(scope):
        held[key] += amount
        legs[key] += 1
    hard = {budget for (budget,) in scope.rows(_HARD)}
    before: Window | None = None
    count = 0
    for window in map(rows.window_of, scope.rows(_WINDOWS)):
        count += 1
        key = window.key
        sums = (settled.pop(key, 0), held.pop(key, 0), legs.pop(key, 0))
        found = (window.settled, window.held, window.open_legs)
        for name, wanted, stored in zip(_LINES, sums, found, strict=True):
            if wanted != stored:
                _differs(scope, key, name, expected=wanted, found=stored)
        _check_excess(scope, window, is_hard=key.budget in hard)
        _check_place(scope, before, window)
        before = window
    for name, sums_left in zip(_LINES, (settled, held, legs), strict=True):
        for key, amount in sums_left.items():
            if amount:
                _differs(scope, key, name, expected=amount, found=None)
    scope.findings.checked(_CHECK, count)


def _check_excess(scope: Scope, window: Window, *, is_hard: bool) -> None:
    bound = window.limit + window.overrun + window.unheld + window.lowered
    if is_hard and window.used > bound:
        _differs(scope, window.key, "settled + held", expected=f"at most {bound}", found=window.used)


def _check_place(scope: Scope, before: Window | None, window: Window) -> None:
    if window.is_closed and window.open_legs:
        _differs(scope, window.key, "state", expected=WindowState.CLOSING, found=window.state)
    if before is not None and before.key[:2] == window.key[:2] and before.ends_at > window.starts_at:
        _differs(
            scope, window.key, "starts_at", expected=f"{before.ends_at} or later", found=window.starts_at
        )


def _posted(scope: Scope) -> Counter[WindowKey]:
    """Return what all postings added to each window."""
    sums: Counter[WindowKey] = Counter()
    for source, packed in scope.rows(_POSTINGS):
        try:
            for key, amount in rows.parts_of(packed):
                sums[key] += amount
        except msgspec.DecodeError:
            scope.differs(_CHECK, "posting", source.hex(), expected="windows and amounts", found=packed)
    return sums


def _held(scope: Scope) -> Iterator[tuple[WindowKey, int]]:
    """Yield what each open leg holds of its window."""
    for hold, packed in scope.rows(_UNRESOLVED):
        try:
            yield from ((leg.window, leg.held) for leg in rows.legs_of(packed) if leg.is_open)
        except msgspec.DecodeError:
            scope.differs(_CHECK, "hold", hold.hex(), expected="legs", found=packed)


def _differs(scope: Scope, key: WindowKey, name: str, *, expected: object, found: object) -> None:
    where = key_text(WindowKey._fields, key)
    scope.differs(_CHECK, _TABLE, f"{where}: {name}", expected=expected, found=found)
