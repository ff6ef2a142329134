"""The state that one commit touches, loaded by storage, changed by decisions, written once.

    storage loads (in lock order)  →  Book  →  decisions, in order of arrival  →  Book.take  →  storage

Every decision checks everything before it changes anything, so a refusal or an error in
the middle of a batch leaves the book as it was and the batch goes on.

What to load: the tracks of the budgets that a call meets (`track_keys`), the holds that
are named and those that own the idempotency keys, the gates of the agents, projects and
the organisation. A track that was not loaded is a programmer's error, not an empty one,
unless the book `is_complete` (an engine in memory).
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from bursar.budgets.budget import Terms
from bursar.budgets.gate import Gates
from bursar.budgets.hold import Hold, HoldState
from bursar.budgets.matching import Call, Matched
from bursar.budgets.window import Track, Window, WindowKey, WindowState

TrackKey = tuple[bytes, str]
"""A budget's id, and the run for a budget per run, else empty."""


class Effect(StrEnum):
    """How an amount came into a window. Stored with its posting."""

    SETTLED = "settled"
    LATE = "late"
    UNHELD = "unheld"
    CORRECTED = "corrected"


class Posting(NamedTuple):
    """One settlement: what was added to `settled` of each window it touched.

    `source` is the hold's id or the event's key; `parts` may be negative only where an
    event is corrected, or a subtraction of one.
    """

    source: bytes
    effect: Effect
    parts: tuple[tuple[WindowKey, int], ...]


class Occasion(StrEnum):
    """What somebody should hear of; the values are the alert types."""

    THRESHOLD = "budget.threshold"
    INCIDENT = "budget.exceeded"
    OVERRUN = "budget.overrun"
    LOWERED = "budget.lowered"
    WINDOW_CLOSED = "budget.window_closed"
    UNAUTHORISED = "spend.unauthorised"
    VOIDED_BUT_SPENT = "hold.voided_but_spent"
    SETTLED_DIFFERENTLY = "hold.settled_differently"
    SUSPENDED = "hold.suspended"
    LEASE_SHARED = "lease.two_spenders"
    GUARD_TRIPPED = "guard.tripped"
    TEMPLATE_SKIPPED = "budget.template_skipped"


class Notice(NamedTuple):
    """One thing that happened, for alerts and incidents. Written in the same commit.

    Attributes:
        amount: In the budget's unit: what was spent, exceeded or is suspended.
        share_ppm: The threshold that was reached, else 0.
        source: The hold or event that caused it, None where nobody did.
        agent: Whose call it was, empty where none was.
        budget: What it is about where no window is concerned.
    """

    occasion: Occasion
    window: WindowKey | None
    amount: int = 0
    share_ppm: int = 0
    source: bytes | None = None
    agent: str = ""
    budget: bytes | None = None


class Writes(NamedTuple):
    """What a commit has to write: each window and hold once, in its last form."""

    windows: list[Window]
    holds: list[Hold]
    postings: list[Posting]
    notices: list[Notice]


class Book:
    """The loaded state; see the module. Attributes are read by decisions, changed only by them.

    `leases` are the windows of each lease that storage has open, where clients are to be counted.

    `terms` are the rules of the active budgets (`BudgetIndex.terms`); a window whose budget
    is not among them was deleted and only winds down.
    """

    def __init__(self, terms: Mapping[bytes, Terms], *, is_complete: bool = False) -> None:
        self.terms = terms
        self.is_complete = is_complete
        self.tracks: dict[TrackKey, Track] = {}
        self.windows: dict[WindowKey, Window] = {}
        self.holds: dict[bytes, Hold] = {}
        self.hold_ids: dict[bytes, bytes] = {}
        self.leases: dict[bytes, frozenset[WindowKey]] = {}
        self.gates = Gates()
        self.dirty: dict[WindowKey, Window] = {}
        self.changed: dict[bytes, Hold] = {}
        self.postings: list[Posting] = []
        self.notices: list[Notice] = []

    def load_track(self, key: TrackKey, windows: Iterable[Window] = ()) -> None:
        """Take what storage has of a track; nothing means that it has no window yet."""
        track = self.tracks[key] = Track(key[1], windows)
        self.windows.update((window.key, window) for window in track.windows)

    def load_window(self, window: Window) -> None:
        """Take one window outside its track: one that a loaded hold has a leg in."""
        self.windows.setdefault(window.key, window)

    def load_hold(self, hold: Hold) -> None:
        """Take a hold, found by its id and by its key."""
        self.holds[hold.id] = hold
        self.hold_ids[hold.key] = hold.id

    def window_at(self, terms: Terms, member: str, at: int) -> Window:
        """Return the window of a budget that counts `at`; a new one is kept by `count_in` only.

        Raises:
            LookupError: The track was not loaded.
        """
        key = (terms.id, member if terms.is_per_run else "")
        track = self.tracks.get(key)
        if track is None:
            if not self.is_complete:
                raise LookupError(key)
            track = self.tracks[key] = Track(key[1])
        latest = track.latest
        if latest is not None and latest.key.starts_at <= at < latest.ends_at:
            return latest
        return track.at(terms.budget, at)

    def count_in(self, window: Window, at: int) -> None:
        """Have a window written by this commit because something counts in it; keep a new one."""
        if window.key not in self.windows:
            self.windows[window.key] = window
            self.tracks[window.key[:2]].adopt(window)
        window.touched_at = max(window.touched_at, at)
        self.dirty[window.key] = window

    def touch(self, window: Window) -> None:
        """Have a window written by this commit."""
        self.dirty[window.key] = window

    def write_hold(self, hold: Hold) -> None:
        """Have a hold written by this commit, and found from now on."""
        self.changed[hold.id] = hold
        self.holds[hold.id] = hold
        self.hold_ids[hold.key] = hold.id

    def end_hold(self, hold: Hold, state: HoldState, at: int) -> None:
        """Give a hold its last state, and have it written; what had ended before keeps its time."""
        hold.state = state
        if hold.ended_at is None:
            hold.ended_at = at
        self.write_hold(hold)

    def tell(self, notice: Notice) -> None:
        """Add what somebody should hear of."""
        self.notices.append(notice)

    def close(self, window: Window) -> None:
        """End a window: at once when no hold is open in it, else when its last one ends."""
        self.touch(window)
        if window.close():
            self.tell(Notice(Occasion.WINDOW_CLOSED, window.key, window.settled))

    def leg_ended(self, window: Window) -> None:
        """Count one open leg less; the last one closes a window that is over."""
        window.open_legs -= 1
        self.touch(window)
        if window.open_legs == 0 and window.state is WindowState.CLOSING:
            self.close(window)

    def take(self) -> Writes:
        """Return what has changed since the last call, and begin anew."""
        writes = Writes(list(self.dirty.values()), list(self.changed.values()), self.postings, self.notices)
        self.dirty, self.changed, self.postings, self.notices = {}, {}, [], []
        return writes


def track_keys(matched: Matched, call: Call) -> list[TrackKey]:
    """Return the tracks that a call touches, in order of id: what storage locks and loads."""
    keys = [(t.id, call.run if t.is_per_run else "") for part in matched for t in part]
    return sorted(keys)
