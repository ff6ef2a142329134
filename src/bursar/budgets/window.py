"""A budget's windows: the rows that count, made when first touched and never reset.

    Budget, instant  →  Track.at  →  Window (settled, held, …)  →  hold, settlement

A `Track` is what is loaded of one budget's windows, or of one run's under a budget per
run. It finds the window of an instant or makes it, so that windows never overlap: a
calendar window begins where its neighbour ends, also after a change of zone, when the
running one keeps its ends and the next ends at the first boundary of the new zone.

Times are microseconds UTC. Not here: who may take room (`hold`), what was spent (`settlement`).
"""

from bisect import bisect_right
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import AMOUNT_MAX
from bursar.budgets.budget import Budget
from bursar.core.periods import Period, session_window, window_at
from bursar.core.time import MICROS_PER_DAY
from bursar.core.zones import parse_zone

NEVER = 2**63 - 1
"""`ends_at` of a window without an end, so that every comparison is between integers."""

RUN_QUIET_MICROS = MICROS_PER_DAY
"""After so long without a call a run's window closes."""


class WindowState(StrEnum):
    """Stored. `closing`: it is over, but holds granted in it are still open."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class WindowKey(NamedTuple):
    """What names a window: its budget, the run it counts (else empty), its beginning."""

    budget: bytes
    member: str
    starts_at: int


class Window(msgspec.Struct, gc=False):
    """One budget in one period: the counters that decide, and those that explain.

    Attributes:
        settled: What was spent; equals the sum of its postings.
        held: What is set aside; equals the sum of its legs still held.
        overrun: Spend above what was held for it.
        unheld: Spend that came without a hold.
        lowered: Room that lowering the limit took away from what was used already.
        late: Of `settled`, what came after the window was over.
        unpriced: Calls in it whose cost is not known.
        open_legs: Legs of holds not resolved yet, those of amount 0 included.
        alerted: The thresholds already raised, as shares in ppm.
        has_incident: Its hard limit was crossed, and since then not raised.
        touched_at: The last time it was counted in.
        recent: Fingerprints of its latest calls, oldest first, where repetitions are counted.
    """

    key: WindowKey
    ends_at: int
    limit: int
    state: WindowState = WindowState.OPEN
    settled: int = 0
    held: int = 0
    overrun: int = 0
    unheld: int = 0
    lowered: int = 0
    late: int = 0
    unpriced: int = 0
    open_legs: int = 0
    alerted: tuple[int, ...] = ()
    has_incident: bool = False
    touched_at: int = 0
    recent: tuple[int, ...] = ()

    @property
    def starts_at(self) -> int:
        """Its first instant."""
        return self.key.starts_at

    @property
    def used(self) -> int:
        """Spent and set aside."""
        return self.settled + self.held

    @property
    def remaining(self) -> int:
        """Room for new holds, never below zero."""
        return max(0, self.limit - self.settled - self.held)

    @property
    def resets_at(self) -> int | None:
        """When the next window begins; None for one without an end."""
        return None if self.ends_at == NEVER else self.ends_at

    def is_past(self, now: int) -> bool:
        """Tell whether it counts no new call any more."""
        return self.ends_at <= now or self.state is not WindowState.OPEN

    @property
    def is_closed(self) -> bool:
        """It is over, and no hold is open in it."""
        return self.state is WindowState.CLOSED

    def lower_to(self, limit: int) -> None:
        """Set a lower limit; what is used already beyond it is recorded in `lowered`."""
        self.lowered += max(0, min(self.limit - limit, self.used - limit))
        self.limit = limit

    def raise_to(self, limit: int) -> None:
        """Set a higher limit; it first gives back what lowering took."""
        self.lowered -= min(self.lowered, limit - self.limit)
        self.limit = limit
        if self.settled < limit:
            self.has_incident = False

    def close(self) -> bool:
        """End it; it is `closing` while holds are open. Tell whether it is closed for good now."""
        self.state = WindowState.CLOSING if self.open_legs else WindowState.CLOSED
        return self.state is WindowState.CLOSED


class Track:
    """What is loaded of one budget's windows (of one run, for a budget per run), oldest first.

    Storage loads the latest window always, and for an instant in the past the windows
    around it: the last that begins at or before it and the first after it.
    """

    __slots__ = ("_starts", "latest", "member", "windows")

    def __init__(self, member: str = "", windows: Iterable[Window] = ()) -> None:
        self.member = member
        self.windows = sorted(windows, key=lambda window: window.key.starts_at)
        self._starts = [window.key.starts_at for window in self.windows]
        self.latest = self.windows[-1] if self.windows else None

    def at(self, budget: Budget, at: int) -> Window:
        """Return the window that counts the instant `at`.

        One that does not exist yet is given but not kept: `adopt` keeps it once something
        counts in it, so a refused call never begins a session.
        """
        latest = self.latest
        if latest is not None and latest.key.starts_at <= at < latest.ends_at:
            return latest
        place = bisect_right(self._starts, at)
        before = self.windows[place - 1] if place else None
        if before is not None and at < before.ends_at:
            return before
        after = self._starts[place] if place < len(self._starts) else NEVER
        starts_at, ends_at = _span(budget, at)
        if before is not None:
            starts_at = max(starts_at, before.ends_at)
        return Window(WindowKey(budget.id, self.member, starts_at), min(ends_at, after), budget.limit)

    def adopt(self, window: Window) -> None:
        """Keep a new window at its place."""
        place = bisect_right(self._starts, window.key.starts_at)
        self.windows.insert(place, window)
        self._starts.insert(place, window.key.starts_at)
        self.latest = self.windows[-1]


def is_due_to_close(budget: Budget, window: Window, now: int) -> bool:
    """Tell whether an open window is over: by its end, or for a run by a day of quiet."""
    if window.state is not WindowState.OPEN:
        return False
    if budget.period is Period.RUN:
        return not window.open_legs and window.touched_at + RUN_QUIET_MICROS <= now
    return window.ends_at <= now


def share_of(limit: int, ppm: int) -> int:
    """Return the amount at a share of the limit, rounded down."""
    return min(limit * ppm // 1_000_000, AMOUNT_MAX)


def reaches(amount: int, limit: int, ppm: int) -> bool:
    """Tell whether an amount is at or above a share of the limit, exactly."""
    return amount * 1_000_000 >= limit * ppm


def _span(budget: Budget, at: int) -> tuple[int, int]:
    if budget.period.begins_with_event:
        starts_at, ends_at = session_window(budget.period, at)
    else:
        starts_at, ends_at = window_at(budget.period, parse_zone(budget.zone), budget.reset_hour, at)
    return starts_at, NEVER if ends_at is None else ends_at
