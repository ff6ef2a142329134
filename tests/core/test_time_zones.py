"""Every zone's windows, 2020 to 2030, against a model made from the standard library's offsets alone.

The model knows one thing of a zone: from which instant on which offset holds. A wall time
begins at the first instant at which some span of constant offset shows it or later. Names
with the same changes share one full walk; around the changes every name is walked itself.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from bursar.core.periods import Period, window_at
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND
from bursar.core.zones import days_between, parse_zone, zone_names

FIRST, LAST = date(2020, 1, 1), date(2030, 12, 31)
DAYS = [FIRST + timedelta(n) for n in range((LAST - FIRST).days + 2)]

SKIPS_MIDNIGHT = {
    "Africa/Cairo",
    "America/Asuncion",
    "America/Coyhaique",
    "America/Havana",
    "America/Santiago",
    "America/Scoresbysund",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Damascus",
    "Asia/Gaza",
    "Asia/Hebron",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Chile/Continental",
    "Cuba",
    "Egypt",
    "Iran",
}
DOUBLES_MIDNIGHT = {
    "America/Havana",
    "America/Scoresbysund",
    "Antarctica/Casey",
    "Antarctica/Vostok",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Hebron",
    "Atlantic/Azores",
    "Cuba",
}


class Span(NamedTuple):
    """Instants between which one offset holds."""

    starts_at: int
    ends_at: int
    offset: int


def micros_of(day: date, hour: int = 0) -> int:
    wall = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    return int(wall.timestamp()) * MICROS_PER_SECOND


def offset_at(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * MICROS_PER_SECOND


def spans_of(zone: ZoneInfo) -> tuple[Span, ...]:
    """Probe each 12 hours and find the second of each change by halving."""
    begin, end = (micros_of(day) // MICROS_PER_SECOND for day in (date(2019, 12, 20), date(2031, 1, 12)))
    starts = [(begin, offset_at(zone, begin))]
    for before, after in pairwise(range(begin, end + 1, 43_200)):
        low, high, offset = before, after, offset_at(zone, after)
        if offset == starts[-1][1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if offset_at(zone, middle) == offset else (middle, high)
        starts.append((high, offset))
    edges = [*(second for second, _ in starts), end]
    return tuple(
        Span(second * MICROS_PER_SECOND, until * MICROS_PER_SECOND, offset)
        for (second, offset), until in zip(starts, edges[1:], strict=True)
    )


def model_starts(spans: tuple[Span, ...], walls: list[int]) -> list[int]:
    """Where each wall time begins; `walls` in order, micros as if UTC."""
    starts, index = [], 0
    for wall in walls:
        while spans[index].ends_at + spans[index].offset <= wall:
            index += 1
        starts.append(max(spans[index].starts_at, wall - spans[index].offset))
    return starts


def walk(period: Period, zone: ZoneInfo, reset_hour: int, begin: int, until: int) -> Iterator[int]:
    """Starts of the windows from the one at `begin` on, each asked for at the end of the one before."""
    at = begin
    while at <= until:
        window = window_at(period, zone, reset_hour, at)
        assert at in {window.starts_at, begin}
        assert window.ends_at is not None
        assert window.ends_at > at
        yield window.starts_at
        at = window.ends_at


@pytest.fixture(scope="module")
def spans_by_name() -> dict[str, tuple[Span, ...]]:
    """The spans of every name; names whose files do not differ are probed once."""
    found: dict[str, tuple[Span, ...]] = {}
    known: dict[bytes, tuple[Span, ...]] = {}
    for name in sorted(zone_names()):
        rules = files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
        if rules not in known:
            known[rules] = spans_of(parse_zone(name))
        found[name] = known[rules]
    return found


@pytest.fixture(scope="module")
def zones(spans_by_name: dict[str, tuple[Span, ...]]) -> dict[tuple[Span, ...], ZoneInfo]:
    """One zone for each distinct course of offsets."""
    return {spans: parse_zone(name) for name, spans in spans_by_name.items()}


def test_every_name_that_python_knows_is_a_zone() -> None:
    assert available_timezones() - {"localtime"} <= zone_names()
    assert len(zone_names()) > 590


def test_daily_windows_of_every_zone_tile_eleven_years(zones: dict[tuple[Span, ...], ZoneInfo]) -> None:
    for spans, zone in zones.items():
        expected = model_starts(spans, [micros_of(day) for day in DAYS])
        assert list(walk(Period.DAILY, zone, 0, expected[0], expected[-1])) == expected, zone.key


def test_report_days_are_the_daily_windows(zones: dict[tuple[Span, ...], ZoneInfo]) -> None:
    for spans, zone in zones.items():
        expected = model_starts(spans, [micros_of(day) for day in DAYS])
        days = days_between(zone, FIRST, LAST)
        assert [day.starts_at for day in days] == expected[:-1], zone.key
        assert [day.ends_at for day in days] == expected[1:], zone.key


@pytest.mark.parametrize("period", [Period.WEEKLY, Period.MONTHLY, Period.QUARTERLY])
def test_longer_windows_of_every_zone_tile(zones: dict[tuple[Span, ...], ZoneInfo], period: Period) -> None:
    begins: dict[Period, Callable[[date], bool]] = {
        Period.WEEKLY: lambda day: day.isoweekday() == 1,
        Period.MONTHLY: lambda day: day.day == 1,
        Period.QUARTERLY: lambda day: day.day == 1 and day.month in {1, 4, 7, 10},
    }
    for spans, zone in zones.items():
        for hour in (0, 2):
            expected = model_starts(spans, [micros_of(day, hour) for day in DAYS if begins[period](day)])
            assert list(walk(period, zone, hour, expected[0], expected[-1])) == expected, zone.key


def test_around_each_change_every_name_agrees_with_the_model(
    spans_by_name: dict[str, tuple[Span, ...]],
) -> None:
    for name, spans in spans_by_name.items():
        zone = parse_zone(name)
        for span in spans[1:]:
            day = datetime.fromtimestamp(span.starts_at / MICROS_PER_SECOND, UTC).date()
            nights = [day + timedelta(n) for n in (-1, 0, 1, 2)]
            expected = model_starts(spans, [micros_of(night) for night in nights])
            assert list(walk(Period.DAILY, zone, 0, expected[0], expected[-1])) == expected, name


def test_around_each_change_every_reset_hour_agrees_with_the_model(
    zones: dict[tuple[Span, ...], ZoneInfo],
) -> None:
    for spans, zone in zones.items():
        for span in spans[1::2]:
            day = datetime.fromtimestamp(span.starts_at / MICROS_PER_SECOND, UTC).date()
            nights = [day + timedelta(n) for n in (-1, 0, 1)]
            for hour in range(1, 24):
                expected = model_starts(spans, [micros_of(night, hour) for night in nights])
                assert list(walk(Period.DAILY, zone, hour, expected[0], expected[-1])) == expected, zone.key


@pytest.mark.parametrize("name", ["America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize("hour", [2, 23])
def test_days_with_a_reset_hour_tile_eleven_years(name: str, hour: int) -> None:
    zone = parse_zone(name)
    expected = model_starts(spans_of(zone), [micros_of(day, hour) for day in DAYS])
    assert list(walk(Period.DAILY, zone, hour, expected[0], expected[-1])) == expected


def model_hours(spans: tuple[Span, ...], begin: int, until: int) -> list[int]:
    starts: set[int] = set()
    for span in spans:
        low, high = max(begin, span.starts_at), min(until + 1, span.ends_at)
        if low < high:
            first = low + -(low + span.offset) % MICROS_PER_HOUR
            starts |= {low, *range(first, high, MICROS_PER_HOUR)}
    return sorted(starts)


def test_hourly_windows_of_every_zone_tile_across_each_change(
    zones: dict[tuple[Span, ...], ZoneInfo],
) -> None:
    for spans, zone in zones.items():
        for span in spans[1:]:
            middle = window_at(Period.HOURLY, zone, 0, span.starts_at - 3 * MICROS_PER_HOUR)
            begin, until = middle.starts_at, span.starts_at + 3 * MICROS_PER_HOUR
            assert list(walk(Period.HOURLY, zone, 0, begin, until)) == model_hours(spans, begin, until)


@pytest.mark.parametrize("name", ["Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_hourly_windows_tile_a_year(name: str) -> None:
    zone = parse_zone(name)
    begin = window_at(Period.HOURLY, zone, 0, micros_of(date(2026, 1, 1))).starts_at
    until = begin + 365 * MICROS_PER_DAY
    hours = list(walk(Period.HOURLY, zone, 0, begin, until))
    assert hours == model_hours(spans_of(zone), begin, until)


def test_the_names_that_skip_or_double_a_midnight_are_these(
    spans_by_name: dict[str, tuple[Span, ...]],
) -> None:
    """History until 2026 only: what governments decide later must not fail a build."""
    skips: set[str] = set()
    doubles: set[str] = set()
    for name, spans in spans_by_name.items():
        for before, after in pairwise(spans):
            if after.starts_at > micros_of(date(2026, 1, 1)):
                break
            low, high = sorted((after.starts_at + before.offset, after.starts_at + after.offset))
            if -low % MICROS_PER_DAY < high - low:
                (skips if after.offset > before.offset else doubles).add(name)
    assert skips == SKIPS_MIDNIGHT
    assert doubles == DOUBLES_MIDNIGHT
