"""Prices of one model through time: which apply at a moment, by date and by time of day.

    listing, corrections  →  Prices in Periods  →  tariff  →  engine (with overrides)

All times are microseconds UTC; periods are half-open and tile all time. Not here: where
the prices come from, and what an organisation changes about them.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

DAY_US: Final = 86_400_000_000
BEGINNING: Final = -(2**63)

_DAYS_A_WEEK: Final = 7
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; Monday is 0
_SATURDAY: Final = 5

Tiered = tuple[tuple[int, int], ...]
"""(context threshold, rate × 10⁶) of one unit, ascending; the first threshold is 0."""


class Prices(NamedTuple):
    """The price of each unit at one moment, and a sentence that says where it is from."""

    by_unit: Mapping[str, Tiered]
    origin: str


class Window(NamedTuple):
    """Prices of a part of each day: from `start_us` to `end_us` after midnight UTC.

    A window whose end is before its start runs over midnight. `weekdays_only` leaves out
    Saturday and Sunday by UTC.
    """

    start_us: int
    end_us: int
    prices: Prices | None
    weekdays_only: bool = False

    def holds(self, at: int) -> bool:
        """Tell whether the moment falls into the window."""
        day, time_of_day_us = divmod(at, DAY_US)
        if self.weekdays_only and (day + _EPOCH_WEEKDAY) % _DAYS_A_WEEK >= _SATURDAY:
            return False
        if self.end_us < self.start_us:
            return time_of_day_us >= self.start_us or time_of_day_us < self.end_us
        return self.start_us <= time_of_day_us < self.end_us


class Period(NamedTuple):
    """Prices from `start` to the next period's start; None means no price is known.

    The last window that holds wins over `prices`.
    """

    start: int
    prices: Prices | None
    windows: tuple[Window, ...] = ()

    def mapped(self, change: Callable[[Prices | None], Prices | None]) -> "Period":
        """Return the period with `change` applied to its prices and to each window's."""
        windows = tuple(window._replace(prices=change(window.prices)) for window in self.windows)
        return Period(self.start, change(self.prices), windows)


Timeline = tuple[Period, ...]
"""Ascending by start; the first starts at `BEGINNING`."""

UNKNOWN: Final[Timeline] = (Period(BEGINNING, None),)


def period_at(timeline: Timeline, at: int) -> Period:
    """Return the period that holds `at`."""
    return timeline[bisect_right([period.start for period in timeline], at) - 1]


def from_moment(timeline: Timeline, start: int) -> Timeline:
    """Return what `timeline` says from `start` on; the first period begins there."""
    return (
        period_at(timeline, start)._replace(start=start),
        *(period for period in timeline if period.start > start),
    )


def splice(timeline: Timeline, insert: Sequence[Period], end: int | None) -> Timeline:
    """Return `timeline` with `insert` in place of all from its first start to `end`.

    An open `end` (None) replaces the rest.
    """
    before = tuple(period for period in timeline if period.start < insert[0].start)
    after = () if end is None else from_moment(timeline, end)
    return (*before, *insert, *after)
