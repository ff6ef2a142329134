"""A hold's windows as they were at a decision: plain values that no later decision changes.

    decision → Book → windows_seen → answers of holds and leases

Not here: how a caller stands with budgets in which it holds nothing (`standing`).
"""

from typing import NamedTuple

from bursar.budgets.book import Book
from bursar.budgets.hold import Hold
from bursar.budgets.window import Window, WindowKey


class WindowSeen(NamedTuple):
    """One window in which a hold has a leg.

    Attributes:
        amount: What was granted to the hold there; `held` in all, `settled` in all, in the budget's unit.
        overrun: Of the window, in all.
        ends_at: Microseconds UTC; `window.NEVER` without an end.
        resets_at: When the next window begins; None where none will.
    """

    window: WindowKey
    ends_at: int
    amount: int
    limit: int
    settled: int
    held: int
    overrun: int
    remaining: int
    resets_at: int | None


def windows_seen(book: Book, hold: Hold) -> tuple[WindowSeen, ...]:
    """Return the windows of a hold's legs, in the legs' order; those that are not loaded are left out."""
    windows = book.windows
    return tuple(window_seen(windows[leg.window], leg.amount) for leg in hold.legs if leg.window in windows)


def window_seen(window: Window, amount: int) -> WindowSeen:
    """Return a window as it is now, in which a hold was granted `amount`."""
    w = window
    return WindowSeen(
        w.key, w.ends_at, amount, w.limit, w.settled, w.held, w.overrun, w.remaining, w.resets_at
    )
