from datetime import UTC, datetime, timedelta

import pytest

from bursar.cli.moments import instant_of, moment_text, seconds_until, span_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (18_720, "5 h 12 min"),
        (3 * 86_400 + 60, "3 d"),
        (86_400 + 3_600, "1 d 1 h"),
    ],
)
def test_a_span_is_told_by_its_two_largest_units(seconds: int, text: str) -> None:
    assert span_text(seconds) == text


def test_an_instant_is_told_by_the_clocks_of_a_zone() -> None:
    midnight = "2026-10-24T22:00:00Z"
    assert moment_text(midnight, "Europe/Berlin") == "2026-10-25 00:00"
    assert moment_text("2026-10-25T23:00:00.25Z", "Europe/Berlin", to_seconds=True) == "2026-10-26 00:00:00"
    assert moment_text(None) == moment_text("0001-01-01T00:00:00Z", "America/New_York") == "-"


def test_a_day_is_its_first_moment_and_an_instant_is_left_alone() -> None:
    assert instant_of("2026-03-01") == "2026-03-01T00:00:00Z"
    assert instant_of("2026-03-01T14:00:00+02:00") == "2026-03-01T14:00:00+02:00"
    assert instant_of(None) is None


def test_what_is_past_is_no_time_away() -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert seconds_until(past) == 0
    assert 3_590 < seconds_until(ahead) <= 3_600
