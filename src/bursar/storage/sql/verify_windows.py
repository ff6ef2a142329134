"""Prove one window of a budget: its counts (I1), its excess (I6, I7), its place and its state (I11).

What the counts must be is added up elsewhere (`verify_postings`, and the legs that are still open);
here they are compared, beside all that the row and its neighbours show by themselves.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from bursar.budgets.budget import Budget
from bursar.budgets.hold import Hold
from bursar.budgets.window import NEVER, Window, WindowKey, WindowState
from bursar.core.errors import InvalidInput
from bursar.core.ids import text_from_id
from bursar.core.periods import Period, session_window, window_at
from bursar.core.time import MICROS_MIN, MICROS_PER_HOUR, MICROS_PER_MINUTE
from bursar.core.zones import parse_zone
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.verify_holds import UNRESOLVED
from bursar.storage.sql.verify_postings import Sum
from bursar.storage.sql.verify_scope import TIME_MAX, Scope, key_text

RULES_SLACK = 2 * MICROS_PER_HOUR
"""Zones' rules change by law, sometimes after a window was made: an edge may lie this far from where
today's rules put it."""

OFFSETS_STEP = 15 * MICROS_PER_MINUTE
"""Every zone's offset has been a multiple of this since `OFFSETS_SINCE`, so edges are as well."""
OFFSETS_SINCE = 157_766_400_000_000  # 1975-01-01

_CHECK = "windows"
_BUDGETS = f"SELECT {rows.BUDGET_COLUMNS}, deleted_at FROM budget WHERE org = ?1"
_SOME_BUDGETS = f"{_BUDGETS} AND {{}}"
_DECIDED = "SELECT last_at FROM decision_clock WHERE org = ?1"
_MOVED = """SELECT DISTINCT target FROM audit
    WHERE org = ?1 AND target LIKE 'bud\\_%' ESCAPE '\\' AND {0}"""
ALL = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window WHERE org = ?1
    ORDER BY budget, member, starts_at"""
_SAME_TRACK = "n.org = ?1 AND n.budget = w.budget AND n.member = w.member"
_PLACES = f"""SELECT {rows.WINDOW_COLUMNS},
        (SELECT n.ends_at FROM budget_window n WHERE {_SAME_TRACK} AND n.starts_at < w.starts_at
            ORDER BY n.starts_at DESC LIMIT 1) AS before_ends_at,
        (SELECT n.starts_at FROM budget_window n WHERE {_SAME_TRACK} AND n.starts_at > w.starts_at
            ORDER BY n.starts_at LIMIT 1) AS after_starts_at
    FROM budget_window w WHERE w.org = ?1 AND {{}}"""
_KEY = "(budget = ? AND member = ? AND starts_at = ?)"


class Rules(NamedTuple):
    """What windows are measured by.

    Attributes:
        budgets: Ended ones too.
        deleted: The ids of the ended ones.
        moved: Budgets whose zone was changed: their older windows keep their edges. None if not known.
        decided_at: The last time by which anything was decided.
    """

    budgets: Mapping[bytes, Budget]
    deleted: frozenset[bytes]
    moved: frozenset[str] | None
    decided_at: int


class Held(msgspec.Struct, gc=False):
    """What open legs keep of one window, and how many they are."""

    amount: int = 0
    legs: int = 0


class Place(NamedTuple):
    """A window between its neighbours of the same track: when these end and begin, None without one."""

    before_ends_at: int | None
    window: Window
    after_starts_at: int | None


def load_rules(scope: Scope, ids: Collection[bytes] | None = None) -> Rules:
    """Return the organisation's budgets and clock; with `ids` only those, whose moves are not looked for."""
    budgets: dict[bytes, Budget] = {}
    deleted: set[bytes] = set()
    if ids is None:
        found = scope.stream(_BUDGETS)
    else:
        found = scope.among(_SOME_BUDGETS, "id = ?", [(one,) for one in ids])
    for *row, deleted_at in found:
        try:
            budgets[row[0]] = rows.budget_of(tuple(row))
        except (msgspec.MsgspecError, ValueError, TypeError):
            key = f"id={row[0].hex()}"
            scope.differs(_CHECK, "budget", key, expected="a budget that can be read", found=None)
        if deleted_at is not None:
            deleted.add(row[0])
    moved = _moved(scope) if ids is None else None
    return Rules(budgets, frozenset(deleted), moved, decided_at(scope))


def _moved(scope: Scope) -> frozenset[str]:
    names_zone = scope.connection.dialect.contains("details", "?2")
    return frozenset(target for (target,) in scope.rows(_MOVED.format(names_zone), '"zone"'))


def decided_at(scope: Scope) -> int:
    """Return the last time by which anything of the organisation's was decided."""
    decided = scope.rows(_DECIDED).fetchone()
    return TIME_MAX if decided is None else int(decided[0])


def held_by(holds: Iterable[Hold], held: dict[WindowKey, Held]) -> None:
    """Add what the open legs of unresolved holds keep to `held`."""
    for hold in holds:
        for leg in hold.legs:
            if leg.is_open and hold.state in UNRESOLVED:
                sums = held.setdefault(leg.window, Held())
                sums.amount += leg.held
                sums.legs += 1


def places(scope: Scope) -> Iterator[Place]:
    """Give every window of the organisation between its neighbours, track by track."""
    before: Window | None = None
    current: Window | None = None
    for row in scope.stream(ALL):
        window = _read(scope, row)
        if window is None:
            continue
        if current is not None:
            yield _between(before, current, window)
        before, current = current, window
    if current is not None:
        yield _between(before, current, None)


def places_of(scope: Scope, keys: Collection[WindowKey]) -> dict[WindowKey, Place]:
    """Return windows between their neighbours by a few seeks each; those that are missing are left out."""
    found = {}
    for *row, before_ends_at, after_starts_at in scope.among(_PLACES, _KEY, keys):
        window = _read(scope, tuple(row))
        if window is not None:
            found[window.key] = Place(before_ends_at, window, after_starts_at)
    return found


def check_counts(scope: Scope, window: Window, settled: int | None, held: Held) -> None:
    """Compare a window's counts with what explains them; `settled` is None where it is not known."""
    lines = [("held", held.amount, window.held), ("open_legs", held.legs, window.open_legs)]
    if settled is not None:
        lines.append(("settled", settled, window.settled))
    for name, expected, found in lines:
        if expected != found:
            differs(scope, window.key, name, expected=expected, found=found)


def check_lists(scope: Scope, window: Window, total: Sum) -> None:
    """Check that a window's lists of excess are not longer than its postings explain (I7)."""
    excused = window.overrun + window.unheld
    if excused > total.gained:
        expected = f"at most {total.gained}"
        differs(scope, window.key, "overrun + unheld", expected=expected, found=excused)
    if window.unheld < total.corrected:
        differs(scope, window.key, "unheld", expected=f"at least {total.corrected}", found=window.unheld)
    if window.late > total.gained:
        differs(scope, window.key, "late", expected=f"at most {total.gained}", found=window.late)


def check_place(scope: Scope, place: Place, rules: Rules) -> None:
    """Check all that a window and its neighbours show by themselves."""
    before_ends_at, window, _ = place
    key = window.key
    budget = rules.budgets.get(key.budget)
    if budget is None:
        differs(scope, key, "budget", expected="a budget", found=None)
        return
    bound = window.limit + window.overrun + window.unheld + window.lowered
    if budget.is_hard and window.used > bound:
        differs(scope, key, "settled + held", expected=f"at most {bound}", found=window.used)
    if before_ends_at is not None and before_ends_at > window.starts_at:
        differs(scope, key, "starts_at", expected=f"{before_ends_at} or later", found=window.starts_at)
    _check_state(scope, window, rules)
    if bool(key.member) is not (budget.period is Period.RUN):
        wanted = "a run" if budget.period is Period.RUN else "no run"
        differs(scope, key, "member", expected=wanted, found=key.member)
    _check_edges(scope, place, budget, rules)


def missing(scope: Scope, key: WindowKey, name: str, expected: int) -> None:
    """Note a window that something counts in and that is not there."""
    differs(scope, key, name, expected=expected, found=None)


def differs(scope: Scope, key: WindowKey, name: str, *, expected: object, found: object) -> None:
    """Note what a window's row has otherwise than it must."""
    where = key_text(WindowKey._fields, key)
    scope.differs(_CHECK, "budget_window", f"{where}: {name}", expected=expected, found=found)


def _read(scope: Scope, row: tuple[object, ...]) -> Window | None:
    try:
        return rows.window_of(tuple(row))
    except (msgspec.MsgspecError, ValueError, TypeError):
        where = key_text(WindowKey._fields, row[:3])
        scope.differs(_CHECK, "budget_window", where, expected="a window that can be read", found=None)
        return None


def _between(before: Window | None, window: Window, after: Window | None) -> Place:
    """Return a window's place in the order of all, where a neighbour may be of another track."""
    track = window.key[:2]
    return Place(
        before.ends_at if before is not None and before.key[:2] == track else None,
        window,
        after.starts_at if after is not None and after.key[:2] == track else None,
    )


def _check_state(scope: Scope, window: Window, rules: Rules) -> None:
    state = window.state
    if (state is WindowState.CLOSED and window.open_legs) or (
        state is WindowState.CLOSING and not window.open_legs
    ):
        wanted = WindowState.CLOSING if window.open_legs else WindowState.CLOSED
        differs(scope, window.key, "state", expected=wanted.value, found=state.value)
    is_over = window.ends_at <= rules.decided_at or window.key.budget in rules.deleted
    if state is not WindowState.OPEN and not is_over:
        differs(scope, window.key, "state", expected=WindowState.OPEN.value, found=state.value)


def _check_edges(scope: Scope, place: Place, budget: Budget, rules: Rules) -> None:
    """Check that a window begins and ends where its period does, or at a neighbour."""
    before_ends_at, window, after_starts_at = place
    starts_at, ends_at = window.starts_at, window.ends_at
    is_cut = after_starts_at == ends_at
    if budget.period is Period.RUN:
        return
    if budget.period is Period.TOTAL:
        if (starts_at, ends_at) != (MICROS_MIN, NEVER):
            differs(scope, window.key, "ends_at", expected="all time", found=f"{starts_at} to {ends_at}")
        return
    if budget.period.begins_with_event:
        most = session_window(budget.period, starts_at).ends_at
        if ends_at != most and not (is_cut and most is not None and ends_at < most):
            differs(scope, window.key, "ends_at", expected=most, found=ends_at)
        return
    is_moved = rules.moved is None or text_from_id("bud", budget.id) in rules.moved
    if before_ends_at != starts_at and not _is_edge(budget, starts_at, is_moved):
        differs(scope, window.key, "starts_at", expected=f"a {budget.period} boundary", found=starts_at)
    if not is_cut and not _is_edge(budget, ends_at, is_moved):
        differs(scope, window.key, "ends_at", expected=f"a {budget.period} boundary", found=ends_at)


def _is_edge(budget: Budget, at: int, is_moved: bool) -> bool:  # noqa: FBT001 - private
    if at in {MICROS_MIN, NEVER}:
        return True
    step = MICROS_PER_MINUTE if budget.period is Period.MINUTE else OFFSETS_STEP
    if at >= OFFSETS_SINCE and at % step:
        return False
    if is_moved:
        return True
    try:
        around = window_at(budget.period, parse_zone(budget.zone), budget.reset_hour, at)
    except InvalidInput:
        return False
    ends_at = NEVER if around.ends_at is None else around.ends_at
    return min(at - around.starts_at, ends_at - at) <= RULES_SLACK
