"""Cut a range into the hours, days, weeks or months of a zone.

The pieces tile the range: the first and the last may be shorter than their period. Where
periods begin is decided in `core.periods`; here they are only cut to the range and named.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from bursar.analytics.query import Span
from bursar.core.errors import InvalidInput
from bursar.core.periods import Period, window_at
from bursar.core.time import text_from_micros
from bursar.core.zones import day_of

SLICES_MAX = 5_000
"""Most pieces of one range: 208 days by hour, 13 years by day."""

_KEPT = 64
"""Ranges kept: a page that is drawn anew asks for the same ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Granularity(StrEnum):
    """How long a slice is. The values stand in the API."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_PERIODS = {
    Granularity.HOUR: Period.HOURLY,
    Granularity.DAY: Period.DAILY,
    Granularity.WEEK: Period.WEEKLY,
    Granularity.MONTH: Period.MONTHLY,
}


class Slice(NamedTuple):
    """A piece of the range and the local name of its period.

    `name` is `2026-03-01T14:00:00+01:00`, `2026-03-01`, `2026-W09` (ISO) or `2026-03`.
    """

    span: Span
    name: str


@lru_cache(maxsize=_KEPT)
def slices(granularity: Granularity, zone: ZoneInfo, span: Span) -> tuple[Slice, ...]:
    """Return the pieces of `span`, oldest first, without gap or overlap.

    Raises:
        InvalidInput: More than `SLICES_MAX`.
    """
    period, name = _PERIODS[granularity], _NAMES[granularity]
    pieces: list[Slice] = []
    starts_at = span.starts_at
    while starts_at < span.ends_at:
        if len(pieces) == SLICES_MAX:
            raise InvalidInput(
                f"the range has more than {SLICES_MAX} pieces of one {granularity}; "
                "shorten it or take longer pieces",
                field="from",
            )
        window = window_at(period, zone, 0, starts_at)
        ends_at = span.ends_at if window.ends_at is None else min(window.ends_at, span.ends_at)
        pieces.append(Slice(Span(starts_at, ends_at), name(zone, window.starts_at)))
        starts_at = ends_at
    return tuple(pieces)


def _hour(zone: ZoneInfo, at: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=at)).astimezone(zone).isoformat()
    except OverflowError:  # the first and last hours of `datetime` have no local time everywhere
        return text_from_micros(at)


def _day(zone: ZoneInfo, at: int) -> str:
    return day_of(zone, at).isoformat()


def _week(zone: ZoneInfo, at: int) -> str:
    year, week, _ = day_of(zone, at).isocalendar()
    return f"{year}-W{week:02d}"


def _month(zone: ZoneInfo, at: int) -> str:
    day = day_of(zone, at)
    return f"{day.year:04d}-{day.month:02d}"


_NAMES: dict[Granularity, Callable[[ZoneInfo, int], str]] = {
    Granularity.HOUR: _hour,
    Granularity.DAY: _day,
    Granularity.WEEK: _week,
    Granularity.MONTH: _month,
}
