"""Periods and their windows: the spans of time a budget or a report counts in.

Calendar windows tile time without gap or overlap, by the rule in `zones`: each begins at
the first instant at which the zone's clocks show its boundary or later. Session and run
windows begin with their first event instead. Pure: reads no clock.

Not here: which window a late event is posted to, and what a change of zone does to the
running one (`budgets`).
"""

from datetime import date, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from bursar.core.errors import InvalidInput
from bursar.core.time import MICROS_MIN, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE
from bursar.core.zones import Window, day_begins_at, offset_changes_at, utc_offset_at, wall_date_at

RESET_HOUR_MAX = 23

_YEAR_2 = -62_104_060_800_000_000
_YEAR_9998 = 253_339_228_800_000_000


class Period(StrEnum):
    """How often a budget starts anew. The values are stored and stand in the API."""

    MINUTE = "minute"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    TOTAL = "total"
    SESSION_5H = "session_5h"
    SESSION_7D = "session_7d"
    RUN = "run"

    @property
    def begins_with_event(self) -> bool:
        """Whether its windows begin with a first event (`session_window`), not by the calendar."""
        return self in _SESSION_MICROS


_SESSION_MICROS = {
    Period.SESSION_5H: 5 * MICROS_PER_HOUR,
    Period.SESSION_7D: 7 * MICROS_PER_DAY,
    Period.RUN: None,
}

_CLOCK_MICROS = {Period.MINUTE: MICROS_PER_MINUTE, Period.HOURLY: MICROS_PER_HOUR}

_LONGEST_DAYS = {Period.DAILY: 1, Period.WEEKLY: 7, Period.MONTHLY: 31, Period.QUARTERLY: 92}


def window_at(period: Period, zone: ZoneInfo, reset_hour: int, at: int) -> Window:
    """Return the window of a calendar period that holds the instant `at`.

    Days begin at `reset_hour` on the zone's clocks, weeks on Monday (ISO), months and
    quarters on their first day, each at that hour. Minutes and hours are those of the zone's
    clocks and know no reset hour; a clock change ends one early, so none is longer than 60
    seconds or minutes, and one that occurs twice is two windows. `total` is one window that never ends.
    Windows tile: `window_at(…, w.ends_at).starts_at == w.ends_at`. A caller may keep a
    window and use it for every instant in it.

    The instants before the first boundary of year 2 and after the last one before year
    9998 are one window each, so that any readable timestamp has a window.

    Raises:
        InvalidInput: `reset_hour` is not 0 to 23.
        ValueError: `period` begins with an event (a programmer's error).
    """
    if period.begins_with_event:
        raise ValueError(period)
    if not 0 <= reset_hour <= RESET_HOUR_MAX:
        raise InvalidInput("reset_hour must be a whole hour from 0 to 23", field="reset_hour")
    if period is Period.TOTAL:
        return Window(MICROS_MIN, None)
    if not _YEAR_2 <= at < _YEAR_9998:
        return _window_at_the_edge(period, zone, reset_hour, at)
    if period in _CLOCK_MICROS:
        return _clock_part(zone, at, _CLOCK_MICROS[period])
    return _calendar_window(period, zone, reset_hour, at)


def session_window(period: Period, first_event_at: int) -> Window:
    """Return the window that a first event opens: 5 hours, 7 days, or a run without an end.

    The next window of a session begins with the first event at or after `ends_at`, so
    they never overlap but may leave gaps.

    Raises:
        ValueError: `period` is a calendar period (a programmer's error).
    """
    if not period.begins_with_event:
        raise ValueError(period)
    length = _SESSION_MICROS[period]
    return Window(first_event_at, None if length is None else first_event_at + length)


def _calendar_window(period: Period, zone: ZoneInfo, reset_hour: int, at: int) -> Window:
    first = _first_day(period, wall_date_at(zone, at, reset_hour=reset_hour))
    while True:
        following = _first_day(period, first + timedelta(_LONGEST_DAYS[period]))
        ends_at = day_begins_at(zone, following, reset_hour)
        if at < ends_at:
            return Window(day_begins_at(zone, first, reset_hour), ends_at)
        # The clocks went back over the boundary: they show the old day, but the new one has begun.
        first = following


def _first_day(period: Period, day: date) -> date:
    if period is Period.WEEKLY:
        return day - timedelta(day.weekday())
    if period is Period.MONTHLY:
        return day.replace(day=1)
    if period is Period.QUARTERLY:
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    return day


def _clock_part(zone: ZoneInfo, at: int, length: int) -> Window:
    """Return the clock's hour or minute around `at` under its offset, cut where the offset changes."""
    offset = utc_offset_at(zone, at)
    starts_at = at - (at + offset) % length
    ends_at = starts_at + length
    if utc_offset_at(zone, starts_at) != offset:
        starts_at = offset_changes_at(zone, starts_at, at)
    if utc_offset_at(zone, ends_at - 1) != offset:
        ends_at = offset_changes_at(zone, at, ends_at)
    return Window(starts_at, ends_at)


def _window_at_the_edge(period: Period, zone: ZoneInfo, reset_hour: int, at: int) -> Window:
    """Return the window of an instant so far out that `datetime` may lack its neighbours."""
    nearest = _YEAR_2 if at < _YEAR_2 else _YEAR_9998 - 1
    window = window_at(period, zone, reset_hour, nearest)
    if at < window.starts_at:
        return Window(MICROS_MIN, window.starts_at)
    if window.ends_at is not None and at >= window.ends_at:
        return Window(window.ends_at, None)
    return window
