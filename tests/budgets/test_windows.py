"""Windows in time: they tile in every zone, sessions begin with a call, runs end with quiet."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_engine import HOUR, START, Engine, cost, numbered

from bursar.budgets.budget import Budget
from bursar.budgets.clock import DecisionClock
from bursar.budgets.hold import Granted
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Refused
from bursar.budgets.window import NEVER, Track, WindowState
from bursar.core.periods import Period, window_at
from bursar.core.time import MICROS_PER_DAY, micros_from_text, text_from_micros
from bursar.core.zones import parse_zone, utc_offset_at, zone_names

ID = numbered(1_000)
DECADE = (micros_from_text("2020-01-01T00:00:00Z"), micros_from_text("2030-12-31T00:00:00Z"))
CALENDAR = [p for p in Period if not p.begins_with_event and p is not Period.TOTAL]
instants = st.integers(*DECADE)


def budget(period: Period, zone: str = "UTC", reset_hour: int = 0) -> Budget:
    return Budget(id=ID, limit=100, created_at=1, period=period, zone=zone, reset_hour=reset_hour)


@given(
    st.sampled_from(CALENDAR),
    st.sampled_from(sorted(zone_names())),
    st.integers(0, 23),
    st.lists(instants, min_size=1, max_size=12),
)
def test_calendar_windows_touched_in_any_order_never_overlap_and_leave_no_gap(
    period: Period, zone: str, reset_hour: int, touched: list[int]
) -> None:
    kind = budget(period, zone, reset_hour)
    track = Track()
    for at in touched:
        window = track.at(kind, at)
        assert window.starts_at <= at < window.ends_at
        if window not in track.windows:
            track.adopt(window)
    for earlier, later in pairwise(track.windows):
        assert earlier.ends_at <= later.starts_at
        assert track.at(kind, earlier.ends_at).starts_at == earlier.ends_at


@given(st.sampled_from([Period.SESSION_5H, Period.SESSION_7D]), st.lists(instants, min_size=1, max_size=12))
def test_sessions_touched_in_any_order_never_overlap(period: Period, touched: list[int]) -> None:
    kind, track = budget(period), Track()
    for at in touched:
        window = track.at(kind, at)
        assert window.starts_at <= at < window.ends_at
        if window not in track.windows:
            track.adopt(window)
    assert all(a.ends_at <= b.starts_at for a, b in pairwise(track.windows))


@given(
    st.lists(
        st.tuples(st.sampled_from(["Asia/Tokyo", "UTC", "America/Santiago"]), st.integers(1, 90)), max_size=12
    )
)
def test_windows_tile_through_any_changes_of_zone(moves: list[tuple[str, int]]) -> None:
    engine = Engine(budget(Period.DAILY))
    engine.hold(cost(1))
    for zone, hours in moves:
        engine.move_zone(ID, zone)
        engine.advance(hours * HOUR)
        engine.hold(cost(1))
    windows = engine.book.tracks[ID, ""].windows
    assert all(a.ends_at <= b.starts_at for a, b in pairwise(windows))
    assert all(window.ends_at - window.starts_at <= 2 * MICROS_PER_DAY for window in windows)


@pytest.mark.parametrize(
    ("zone", "at", "starts_at", "hours"),
    [
        ("America/Santiago", "2024-09-08T12:00:00Z", "2024-09-08T04:00:00Z", 23),
        ("Africa/Cairo", "2024-04-26T12:00:00Z", "2024-04-25T22:00:00Z", 23),
        ("Asia/Beirut", "2024-03-31T12:00:00Z", "2024-03-30T22:00:00Z", 23),
        ("America/Havana", "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", 25),
        ("Australia/Lord_Howe", "2024-10-06T06:00:00Z", "2024-10-05T13:30:00Z", 23.5),
    ],
)
def test_a_daily_budget_follows_the_odd_nights_of_its_zone(
    zone: str, at: str, starts_at: str, hours: float
) -> None:
    window = Track().at(budget(Period.DAILY, zone), micros_from_text(at))
    assert text_from_micros(window.starts_at) == starts_at
    assert window.ends_at - window.starts_at == hours * HOUR


def test_a_session_begins_with_a_granted_call_and_the_next_with_the_first_after_it() -> None:
    engine = Engine(budget(Period.SESSION_5H))
    assert isinstance(engine.ask(engine.request(cost(101))), Refused)
    assert engine.book.windows == {}
    engine.advance(HOUR)
    engine.hold(cost(100))
    assert engine.window(ID).starts_at == START + HOUR
    engine.advance(5 * HOUR - 1)
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    engine.advance(3 * HOUR)
    engine.hold(cost(100))
    assert engine.window(ID).starts_at == engine.wall


def test_a_total_budget_has_one_window_that_never_ends() -> None:
    engine = Engine(budget(Period.TOTAL))
    engine.settle(engine.hold(cost(60)), cost(60))
    engine.advance(400 * MICROS_PER_DAY)
    engine.run_jobs()
    refused = engine.ask(engine.request(cost(41)))
    assert isinstance(refused, Refused)
    assert (refused.resets_at, engine.window(ID).ends_at) == (None, NEVER)


def test_each_run_has_its_own_window_which_closes_after_a_day_of_quiet() -> None:
    engine = Engine(budget(Period.RUN))
    first = engine.hold(cost(100), Call("a", run="r1"))
    second = engine.hold(cost(100), Call("a", run="r2"))
    engine.settle(first, cost(100))
    engine.advance(23 * HOUR)
    engine.settle(engine.hold(cost(0), Call("a", run="r1")), cost(0))
    engine.run_jobs()
    engine.advance(2 * HOUR)
    engine.run_jobs()
    states = {key.member: window.state for key, window in engine.book.windows.items()}
    assert states == {"r1": WindowState.OPEN, "r2": WindowState.CLOSED}
    assert second.settled is None


def test_closing_a_quiet_run_never_lets_its_window_reach_into_a_later_one() -> None:
    engine = Engine(budget(Period.RUN))
    call = Call("a", run="r")
    engine.post(cost(1), call, at=START - HOUR)
    engine.post(cost(1), call, at=START - 30 * HOUR)
    engine.run_jobs()
    earlier, later = engine.book.tracks[ID, "r"].windows
    assert earlier.state is WindowState.CLOSED
    assert earlier.ends_at == later.starts_at == START - HOUR


def test_nothing_is_ever_reset_so_a_lost_job_or_a_restart_loses_no_count() -> None:
    engine = Engine(budget(Period.MONTHLY))
    engine.settle(engine.hold(cost(90)), cost(90))
    engine.restart()
    assert isinstance(engine.ask(engine.request(cost(11))), Refused)
    engine.advance(40 * MICROS_PER_DAY)
    assert isinstance(engine.ask(engine.request(cost(100))), Granted)
    march, later = engine.book.tracks[ID, ""].windows
    assert (march.settled, later.settled, later.held) == (90, 0, 100)


def test_time_never_goes_back_and_small_steps_are_not_suspect() -> None:
    clock = DecisionClock(last=1_000)
    assert clock.read(500, 0) == (1_000, None)
    assert clock.read(30_000_000, 1) == (30_000_000, None)
    assert clock.read(29_000_000, 2) == (30_000_000, None)
    assert clock.read(100_000_000, 3).doubted == 30_000_002
    assert clock.read(100_000_000, 10_000_003).trusted == 40_000_002
    clock.confirm()
    assert clock.read(100_000_001, 10_000_004) == (100_000_001, None)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Monrovia"])
@pytest.mark.parametrize("at", ["2026-04-04T14:59:30Z", "1972-01-07T00:44:00Z", "2026-10-03T15:29:59Z"])
def test_minutes_tile_by_the_zones_clocks(zone: str, at: str) -> None:
    place = parse_zone(zone)
    window = window_at(Period.MINUTE, place, 0, micros_from_text(at) - 3 * 60_000_000)
    for _ in range(6):
        following = window_at(Period.MINUTE, place, 0, window.ends_at)
        assert following.starts_at == window.ends_at
        assert 0 < window.ends_at - window.starts_at <= 60_000_000
        is_change = utc_offset_at(place, window.ends_at) != utc_offset_at(place, window.ends_at - 1)
        assert is_change or (window.ends_at + utc_offset_at(place, window.ends_at)) % 60_000_000 == 0
        window = following
