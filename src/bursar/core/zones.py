"""Where local days begin: IANA zones, days as spans of instants, date ranges of queries.

    time (micros)  →  zones (local days)  →  periods (windows of a budget)

One rule decides every boundary: a local time *begins* at the first instant at which the
zone's clocks show it or a later time. So a midnight that a clock change skips begins right
after the gap, one that occurs twice begins at its first occurrence, a day may last 23 or
25 hours, and days tile time by construction, even where a whole day was left out.

Zones come from the `tzdata` package alone, never from the host's files: the windows of a
ledger must not depend on the machine it is read on.
"""

from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from bursar.core.errors import InvalidInput
from bursar.core.time import (
    MICROS_MAX,
    MICROS_MIN,
    MICROS_PER_DAY,
    MICROS_PER_HOUR,
    MICROS_PER_SECOND,
    micros_from_text,
)

DAYS_MAX = 5_000
"""Most days `days_between` lists: above thirteen years, far below what would stall a request."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - read as wall time of whatever zone is asked
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_BOUNDARIES_KEPT = 16_384
_ISO_DATE_LENGTH = len("2026-03-01")


class Window(NamedTuple):
    """A half-open span of instants, microseconds UTC: `starts_at` is in it, `ends_at` is not.

    `ends_at` is None when it never ends.
    """

    starts_at: int
    ends_at: int | None


class Day(NamedTuple):
    """One local calendar day and the exact instants between which it lies (half-open)."""

    day: date
    starts_at: int
    ends_at: int


@cache
def zone_names() -> frozenset[str]:
    """Return every IANA zone name that `parse_zone` takes, links included."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


def parse_zone(name: str, *, field: str = "timezone") -> ZoneInfo:
    """Return the zone of an IANA name such as `Europe/Berlin`; the same object every time.

    Raises:
        InvalidInput: No such name. Case counts, and abbreviations that IANA does not list
            (`PST`) are unknown.
    """
    if name not in zone_names():
        raise InvalidInput(f"{field} must be an IANA time zone, for example Europe/Berlin", field=field)
    return _load(name)


def begins_at(zone: ZoneInfo, wall: datetime) -> int:
    """Return the first instant at which the zone's clocks show `wall` (naive) or later."""
    micros = (wall - _EPOCH) // _MICROSECOND
    local = wall.replace(tzinfo=zone)
    first, second = _offset_of(local), _offset_of(local.replace(fold=1))
    if first < second:
        return offset_changes_at(zone, micros - second, micros - first)
    return micros - first


def utc_offset_at(zone: ZoneInfo, at: int) -> int:
    """Return local time minus UTC at the instant `at`, in microseconds.

    Within a day of the first and last instants of `datetime` the offset a day further in is given.
    """
    inside = min(max(at, MICROS_MIN + MICROS_PER_DAY), MICROS_MAX - MICROS_PER_DAY)
    local = zone.fromutc((_EPOCH + timedelta(microseconds=inside)).replace(tzinfo=zone))
    return _offset_of(local)


def offset_changes_at(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the instant in (`before`, `after`] from which the offset of `after` has held.

    The offsets of the two must differ, and only one change may lie between. Changes lie
    on whole seconds, so both ends may be cut to theirs and only those are tried.
    """
    before -= before % MICROS_PER_SECOND
    after -= after % MICROS_PER_SECOND
    target = utc_offset_at(zone, after)
    while after - before > MICROS_PER_SECOND:
        middle = before + (after - before) // (2 * MICROS_PER_SECOND) * MICROS_PER_SECOND
        if utc_offset_at(zone, middle) == target:
            after = middle
        else:
            before = middle
    return after


def wall_date_at(zone: ZoneInfo, at: int, *, reset_hour: int = 0) -> date:
    """Return the date on the zone's clocks at `at`, for days that begin at `reset_hour`.

    Where clocks go back over the day's boundary, the old date shows again although the new day has
    begun; `day_of` does not follow that.
    """
    days = (at + utc_offset_at(zone, at) - reset_hour * MICROS_PER_HOUR) // MICROS_PER_DAY
    return date.fromordinal(min(max(days + _EPOCH_ORDINAL, 1), date.max.toordinal()))


@lru_cache(maxsize=_BOUNDARIES_KEPT)
def day_begins_at(zone: ZoneInfo, day: date, reset_hour: int = 0) -> int:
    """Return where a local day begins; for a day that was left out, where the next one does."""
    # The members are spelled out: `datetime.combine` with a `time` costs twice as much.
    return begins_at(zone, datetime(day.year, day.month, day.day, reset_hour))  # noqa: DTZ001


def day_of(zone: ZoneInfo, at: int) -> date:
    """Return the local day that holds the instant `at`, as `day_bounds` bounds it."""
    day = wall_date_at(zone, at)
    while day < date.max and day_begins_at(zone, day + timedelta(1)) <= at:
        day += timedelta(1)
    return day


def day_bounds(zone: ZoneInfo, day: date) -> Window:
    """Return the first instant of a local day and the first one after it.

    Raises:
        InvalidInput: The zone's calendar left that day out (Pacific/Apia, 2011-12-30), or
            it is the last day of year 9999.
    """
    days = days_between(zone, day, day)
    if not days:
        raise InvalidInput(f"{day} does not exist in {zone.key}; the calendar there left it out")
    return Window(days[0].starts_at, days[0].ends_at)


def days_between(zone: ZoneInfo, first: date, last: date) -> list[Day]:
    """Return the local days from `first` to `last`, both included, oldest first.

    They tile: each begins where the one before ends. A day that the zone's calendar left
    out is not listed. Empty when `last` is before `first`.

    Raises:
        InvalidInput: More than `DAYS_MAX` days, or `last` is the last day of year 9999.
    """
    count = (last - first).days + 1
    if count > DAYS_MAX or last == date.max:
        raise InvalidInput(f"a report by day covers at most {DAYS_MAX} days", field="from")
    if count < 1:
        return []
    dates = [first + timedelta(n) for n in range(count + 1)]
    starts = [day_begins_at(zone, day) for day in dates]
    tiles = zip(dates, starts, starts[1:], strict=False)
    return [Day(day, start, end) for day, start, end in tiles if start < end]


def range_start(text: str, zone: ZoneInfo, *, field: str = "from") -> int:
    """Return where a queried range starts, inclusive: a day's beginning, or an exact timestamp.

    Args:
        text: `2026-03-01`, a local day of `zone`, or RFC 3339 with a zone of its own.
        zone: Whose day a bare date means; a timestamp does not use it.
        field: The query parameter's name, for the error.

    Raises:
        InvalidInput: Neither of the two.
    """
    day = _date_or_none(text, field)
    if day is None:
        return _timestamp(text, field)
    return max(day_begins_at(zone, day), MICROS_MIN)


def range_end(text: str, zone: ZoneInfo, *, field: str = "to") -> int:
    """Return where a queried range ends, exclusive; arguments and errors as `range_start`.

    A bare date is meant with the whole day: the result is where the next day begins. A
    timestamp is exact.
    """
    day = _date_or_none(text, field)
    if day is None:
        return _timestamp(text, field)
    return MICROS_MAX if day == date.max else day_begins_at(zone, day + timedelta(1))


@cache
def _load(name: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def _offset_of(local: datetime) -> int:
    offset = local.utcoffset()
    if offset is None:  # pragma: no cover - a ZoneInfo always knows
        raise AssertionError(local)
    return offset // _MICROSECOND


def _date_or_none(text: str, field: str) -> date | None:
    """Return the date of a bare `YYYY-MM-DD`, None for anything longer or shorter."""
    if len(text) != _ISO_DATE_LENGTH:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise InvalidInput(f"{field} must be a date that exists, for example 2026-03-01", field=field)
    return day


def _timestamp(text: str, field: str) -> int:
    try:
        return micros_from_text(text, field=field)
    except InvalidInput:
        raise InvalidInput(
            f"{field} must be a date (2026-03-01) or an RFC 3339 time with a zone "
            "(2026-03-01T14:00:00Z; in a URL the + of an offset is written %2B)",
            field=field,
        ) from None
