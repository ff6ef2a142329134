"""Clock values: what text is read, what is refused, and that nothing is lost in between."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.core.errors import InvalidInput
from bursar.core.time import (
    MICROS_MAX,
    MICROS_MIN,
    MICROS_PER_HOUR,
    MICROS_PER_SECOND,
    hour_of,
    micros_from_datetime,
    micros_from_text,
    system_clock,
    text_from_micros,
)

instants = st.integers(MICROS_MIN, MICROS_MAX)

READ = [
    ("1970-01-01T00:00:00Z", 0),
    ("1970-01-01t00:00:01z", 1_000_000),
    ("1970-01-01T00:00:00.5Z", 500_000),
    ("1970-01-01T00:00:00.000001Z", 1),
    ("1970-01-01T00:00:00.9999999Z", 999_999),
    ("1970-01-01T02:00:00+02:00", 0),
    ("1969-12-31T18:30:00-05:30", 0),
    ("1970-01-01T00:00:00-00:00", 0),
    ("0001-01-01T00:00:00Z", MICROS_MIN),
    ("9999-12-31T23:59:59.999999Z", MICROS_MAX),
    ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
    ("2017-01-01T00:59:60.25+01:00", 1_483_228_799_999_999),
]

REFUSED = """
    2026-03-01|2026-03-01T14:00:00|2026-03-01 14:00:00Z|2026-03-01T14:00Z|2026-03-01T14:00:00.Z
    2026-03-01T14:00:00+02|2026-03-01T14:00:00+0200|2026-03-01T14:00:00+24:00|2026-03-01T14:00:00+02:60
    2026-03-01T24:00:00Z|2026-02-29T00:00:00Z|2026-13-01T00:00:00Z|2026-03-01T14:00:61Z
    2026-03-01T14:00:60Z|2016-12-31T23:59:60+01:00|20260301T140000Z|2026-W09-7T14:00:00Z|1772373600
    0001-01-01T00:00:00+00:01|9999-12-31T23:59:59-00:01|0000-01-01T00:00:00Z|-2026-03-01T14:00:00Z
    \uff12026-03-01T14:00:00Z|2026-03-01T14:00:00Z\u0000|2026-03-01T14:00:00,5Z|2026-03-01T14:00:00 02:00||now
"""


@pytest.mark.parametrize(("text", "micros"), READ)
def test_a_timestamp_is_read_exactly(text: str, micros: int) -> None:
    assert micros_from_text(text) == micros


@pytest.mark.parametrize("text", [text.strip() for line in REFUSED.split("\n") for text in line.split("|")])
def test_what_is_not_rfc3339_with_a_zone_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        micros_from_text(text, field="started_at")
    assert refused.value.field == "started_at"
    assert refused.value.detail.startswith("started_at must ")


def test_a_newline_after_a_timestamp_is_refused() -> None:
    with pytest.raises(InvalidInput):
        micros_from_text("2026-03-01T14:00:00Z\n")


def test_a_very_long_fraction_is_refused() -> None:
    with pytest.raises(InvalidInput):
        micros_from_text(f"2026-03-01T14:00:00.{'0' * 100_000}Z")


@given(instants)
def test_text_and_instant_round_trip(micros: int) -> None:
    text = text_from_micros(micros)
    assert micros_from_text(text) == micros
    assert text.endswith("Z")
    assert "." not in text or text[-2] != "0"


@given(instants, st.integers(-1_439, 1_439))
def test_the_offset_of_a_text_does_not_change_its_instant(micros: int, offset_min: int) -> None:
    zone = timezone(timedelta(minutes=offset_min))
    try:
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).astimezone(zone)
    except OverflowError:
        return
    assert micros_from_text(local.isoformat()) == micros
    assert micros_from_datetime(local) == micros


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        micros_from_datetime(datetime(2026, 3, 1))  # noqa: DTZ001


@given(instants)
def test_an_hour_holds_its_instants(micros: int) -> None:
    start = hour_of(micros)
    assert start % MICROS_PER_HOUR == 0
    assert 0 <= micros - start < MICROS_PER_HOUR


def test_the_system_clock_gives_microseconds_since_1970() -> None:
    assert (
        abs(system_clock() - int(datetime.now(UTC).timestamp()) * MICROS_PER_SECOND) < 60 * MICROS_PER_SECOND
    )
