"""Odd nights by name, days and ranges of reports, and the law of windows for any instant."""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.core.errors import InvalidInput
from bursar.core.periods import Period, session_window, window_at
from bursar.core.time import MICROS_MAX, MICROS_MIN, MICROS_PER_HOUR, micros_from_text, text_from_micros
from bursar.core.zones import (
    DAYS_MAX,
    Window,
    day_bounds,
    day_of,
    days_between,
    parse_zone,
    range_end,
    range_start,
    zone_names,
)

CALENDAR = [period for period in Period if not period.begins_with_event and period is not Period.TOTAL]

zones = st.sampled_from(sorted(zone_names())).map(parse_zone)
calendar = st.sampled_from(CALENDAR)
hours = st.integers(0, 23)
any_instant = st.integers(MICROS_MIN, MICROS_MAX)
near_instant = st.integers(micros_from_text("1900-01-01T00:00:00Z"), micros_from_text("2100-01-01T00:00:00Z"))

ODD_DAYS = [
    ("America/Santiago", "2024-09-08", "2024-09-08T04:00:00Z", 23),
    ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00Z", 23),
    ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00Z", 23),
    ("America/Havana", "2024-03-10", "2024-03-10T05:00:00Z", 23),
    ("America/Havana", "2024-11-03", "2024-11-03T04:00:00Z", 25),
    ("Atlantic/Azores", "2024-10-27", "2024-10-27T00:00:00Z", 25),
    ("Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30:00Z", 23.5),
    ("Australia/Lord_Howe", "2024-04-07", "2024-04-06T13:00:00Z", 24.5),
    ("Antarctica/Troll", "2024-03-31", "2024-03-31T00:00:00Z", 22),
    ("Antarctica/Troll", "2024-10-27", "2024-10-26T22:00:00Z", 26),
    ("America/New_York", "2024-11-03", "2024-11-03T04:00:00Z", 25),
    ("Asia/Kathmandu", "2024-11-03", "2024-11-02T18:15:00Z", 24),
]


def spans(period: Period, zone: str, at: str, reset_hour: int = 0) -> tuple[str, str]:
    window = window_at(period, parse_zone(zone), reset_hour, micros_from_text(at))
    assert window.ends_at is not None
    return text_from_micros(window.starts_at), text_from_micros(window.ends_at)


@pytest.mark.parametrize(("zone", "day", "starts_at", "hours"), ODD_DAYS)
def test_an_odd_day_begins_and_lasts_as_its_clocks_say(
    zone: str, day: str, starts_at: str, hours: float
) -> None:
    window = day_bounds(parse_zone(zone), date.fromisoformat(day))
    assert window.ends_at is not None
    assert text_from_micros(window.starts_at) == starts_at
    assert window.ends_at - window.starts_at == hours * MICROS_PER_HOUR


def test_a_reset_hour_that_does_not_exist_begins_after_the_gap() -> None:
    assert spans(Period.DAILY, "America/New_York", "2026-03-08T12:00:00Z", 2) == (
        "2026-03-08T07:00:00Z",
        "2026-03-09T06:00:00Z",
    )


def test_a_reset_hour_that_occurs_twice_begins_at_the_first() -> None:
    assert spans(Period.DAILY, "America/New_York", "2026-11-01T06:30:00Z", 1) == (
        "2026-11-01T05:00:00Z",
        "2026-11-02T06:00:00Z",
    )


def test_when_clocks_fall_back_over_midnight_the_new_day_stays() -> None:
    """Until 2011 St. John's went from 00:01 back to 23:01 of the day before."""
    zone = parse_zone("America/St_Johns")
    old_date_again = micros_from_text("2010-11-07T03:00:00Z")
    assert day_of(zone, old_date_again) == date(2010, 11, 7)
    assert spans(Period.DAILY, "America/St_Johns", "2010-11-07T03:00:00Z")[0] == "2010-11-07T02:30:00Z"


def test_weeks_begin_on_monday_and_quarters_in_their_month() -> None:
    at = "2026-08-16T12:00:00Z"
    assert spans(Period.WEEKLY, "UTC", at, 5) == ("2026-08-10T05:00:00Z", "2026-08-17T05:00:00Z")
    assert spans(Period.MONTHLY, "UTC", at) == ("2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z")
    assert spans(Period.QUARTERLY, "UTC", at) == ("2026-07-01T00:00:00Z", "2026-10-01T00:00:00Z")
    assert spans(Period.QUARTERLY, "UTC", "2026-12-31T23:59:59Z")[1] == "2027-01-01T00:00:00Z"


def test_before_the_reset_hour_of_the_first_it_is_still_last_month() -> None:
    assert spans(Period.MONTHLY, "Europe/Berlin", "2026-03-01T04:59:59Z", 6) == (
        "2026-02-01T05:00:00Z",
        "2026-03-01T05:00:00Z",
    )


def test_an_hour_that_occurs_twice_is_two_hourly_windows() -> None:
    assert spans(Period.HOURLY, "America/New_York", "2026-11-01T05:30:00Z")[1] == "2026-11-01T06:00:00Z"
    assert spans(Period.HOURLY, "America/New_York", "2026-11-01T06:30:00Z")[0] == "2026-11-01T06:00:00Z"


def test_a_half_hour_shift_makes_a_half_hour_window() -> None:
    assert spans(Period.HOURLY, "Australia/Lord_Howe", "2024-04-06T15:10:00Z") == (
        "2024-04-06T15:00:00Z",
        "2024-04-06T15:30:00Z",
    )
    for at in ("2024-10-05T15:40:00Z", "2024-10-05T15:30:00.000001Z"):
        assert spans(Period.HOURLY, "Australia/Lord_Howe", at) == (
            "2024-10-05T15:30:00Z",
            "2024-10-05T16:00:00Z",
        )


@pytest.mark.parametrize(
    ("zone", "lost"), [("Pacific/Apia", "2011-12-30"), ("Pacific/Kwajalein", "1993-08-21")]
)
def test_a_day_that_was_left_out_is_no_window_and_no_day(zone: str, lost: str) -> None:
    away = parse_zone(zone)
    day = date.fromisoformat(lost)
    around = days_between(away, day - timedelta(1), day + timedelta(1))
    assert [found.day for found in around] == [day - timedelta(1), day + timedelta(1)]
    assert around[0].ends_at == around[1].starts_at
    assert window_at(Period.DAILY, away, 0, around[1].starts_at) == around[1][1:]
    assert window_at(Period.DAILY, away, 0, around[0].ends_at - 1) == around[0][1:]
    assert range_start(lost, away) == range_end(lost, away) == around[1].starts_at
    with pytest.raises(InvalidInput, match="left it out"):
        day_bounds(away, day)


@given(calendar, zones, hours, near_instant | any_instant)
@settings(max_examples=600, deadline=None)
def test_a_window_holds_its_instant_and_the_next_begins_where_it_ends(
    period: Period, zone: ZoneInfo, reset_hour: int, at: int
) -> None:
    window = window_at(period, zone, reset_hour, at)
    assert window.starts_at <= at
    if window.ends_at is None:
        assert at > micros_from_text("9997-12-01T00:00:00Z")
        return
    assert at < window.ends_at
    assert window_at(period, zone, reset_hour, window.starts_at) == window
    assert window_at(period, zone, reset_hour, window.ends_at - 1) == window
    following = window_at(period, zone, reset_hour, window.ends_at)
    assert following.starts_at == window.ends_at


def test_the_first_and_last_instants_have_windows_too() -> None:
    for period in CALENDAR:
        for name in ("Pacific/Kiritimati", "Pacific/Niue", "UTC"):
            first = window_at(period, parse_zone(name), 23, MICROS_MIN)
            last = window_at(period, parse_zone(name), 23, MICROS_MAX)
            assert first.starts_at == MICROS_MIN
            assert first.ends_at is not None
            assert last.starts_at < MICROS_MAX
            assert last.ends_at is None


def test_total_never_ends() -> None:
    assert window_at(Period.TOTAL, parse_zone("UTC"), 0, 5).ends_at is None


def test_sessions_begin_with_their_first_event() -> None:
    assert session_window(Period.SESSION_5H, 7) == Window(7, 7 + 5 * MICROS_PER_HOUR)
    assert session_window(Period.SESSION_7D, 7) == Window(7, 7 + 168 * MICROS_PER_HOUR)
    assert session_window(Period.RUN, 7) == Window(7, None)


def test_a_calendar_period_opens_no_session_nor_a_session_a_calendar_window() -> None:
    with pytest.raises(ValueError, match="daily"):
        session_window(Period.DAILY, 0)
    with pytest.raises(ValueError, match="run"):
        window_at(Period.RUN, parse_zone("UTC"), 0, 0)


@pytest.mark.parametrize("hour", [-1, 24])
def test_a_reset_hour_outside_the_day_is_refused(hour: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        window_at(Period.DAILY, parse_zone("UTC"), hour, 0)
    assert refused.value.field == "reset_hour"


@pytest.mark.parametrize(
    "name", ["", "PST", "europe/berlin", "Mars/Base", "../../etc/passwd", "localtime", "UTC\0"]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="IANA") as refused:
        parse_zone(name, field="tz")
    assert refused.value.field == "tz"


@given(zones, near_instant)
@settings(max_examples=300, deadline=None)
def test_each_instant_lies_in_its_day(zone: ZoneInfo, at: int) -> None:
    window = day_bounds(zone, day_of(zone, at))
    assert window.ends_at is not None
    assert window.starts_at <= at < window.ends_at


def test_days_of_a_report_have_a_bound_and_may_be_none() -> None:
    utc, day = parse_zone("UTC"), date(2026, 3, 1)
    assert days_between(utc, day, day - timedelta(5)) == []
    assert len(days_between(utc, day, day + timedelta(DAYS_MAX - 1))) == DAYS_MAX
    with pytest.raises(InvalidInput, match="at most"):
        days_between(utc, day, day + timedelta(DAYS_MAX))


def test_a_bare_end_date_includes_its_whole_day() -> None:
    berlin = parse_zone("Europe/Berlin")
    assert text_from_micros(range_start("2026-03-29", berlin)) == "2026-03-28T23:00:00Z"
    assert text_from_micros(range_end("2026-03-29", berlin)) == "2026-03-29T22:00:00Z"


def test_a_timestamp_in_a_range_is_exact() -> None:
    berlin, text = parse_zone("Europe/Berlin"), "2026-03-29T10:00:00.25+05:00"
    assert range_start(text, berlin) == range_end(text, berlin) == micros_from_text(text)


def test_the_ends_of_the_calendar_are_usable_as_for_ever() -> None:
    for name in ("Pacific/Kiritimati", "Pacific/Niue"):
        zone = parse_zone(name)
        assert MICROS_MIN <= range_start("0001-01-01", zone) < range_end("0001-01-01", zone)
        assert range_start("9999-12-31", zone) <= range_end("9999-12-31", zone) == MICROS_MAX


@pytest.mark.parametrize(
    "text",
    ["", "2026-02-29", "20260301", "2026-3-1", "2026-W09-7", "2026-060", "today", "2026-03-01T10:00:00"],
)
def test_a_range_bound_that_is_neither_is_refused_by_its_parameter(text: str) -> None:
    for bound in (range_start, range_end):
        with pytest.raises(InvalidInput) as refused:
            bound(text, parse_zone("UTC"), field="startDate")
        assert refused.value.field == "startDate"
