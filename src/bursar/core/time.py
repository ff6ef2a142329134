"""Clock values: integer microseconds UTC, read from and written as RFC 3339.

Every instant inside is an `int` of microseconds since 1970-01-01T00:00:00Z; text and
`datetime` exist only at the edges. Nothing here knows of a time zone's rules: local days
and windows are in `zones` and `periods`.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bursar.core.errors import InvalidInput

MICROS_PER_SECOND = 1_000_000
MICROS_PER_MINUTE = 60_000_000
MICROS_PER_HOUR = 3_600_000_000
MICROS_PER_DAY = 86_400_000_000

MICROS_MIN = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z, the earliest instant RFC 3339 text is read or written for."""

MICROS_MAX = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z, the latest one."""

Clock = Callable[[], int]
"""Gives the present in microseconds UTC. Passed to whoever needs it, so tests can bring their own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:([0-9]{2})(?:\.[0-9]{1,30})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_FRACTION = re.compile(r"\.[0-9]+")


def system_clock() -> int:
    """Return the system's present in microseconds UTC. May step back when the host's clock does."""
    return time.time_ns() // 1_000


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic_clock() -> int:
    """Return microseconds of a clock that never steps and goes on while the machine sleeps.

    Else a laptop that was closed overnight would look like a clock that stepped.
    """
    return time.clock_gettime_ns(_STEADY) // 1_000


def hour_of(micros: int) -> int:
    """Return the start of the UTC hour that holds `micros`: the key of hourly roll-ups."""
    return micros - micros % MICROS_PER_HOUR


def micros_from_datetime(moment: datetime, *, field: str = "timestamp") -> int:
    """Return the instant of an aware `moment`.

    Raises:
        InvalidInput: `moment` has no zone, or lies outside years 1 to 9999 in UTC.
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"{field} needs a time zone: end it with Z or an offset", field=field)
    since = moment - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not MICROS_MIN <= micros <= MICROS_MAX:
        raise InvalidInput(f"{field} must lie in the years 1 to 9999", field=field)
    return micros


def micros_from_text(text: str, *, field: str = "timestamp") -> int:
    """Return the instant that an RFC 3339 timestamp names.

    Digits beyond microseconds are cut, not rounded, so that no instant moves into the
    next second or hour. A leap second (23:59:60 UTC) counts as the last microsecond
    before it, so that it stays in its day.

    Raises:
        InvalidInput: Not RFC 3339, no zone, a day or time that does not exist, or outside
            years 1 to 9999 in UTC.

    Source: RFC 3339, section 5.6 (`date-time`), without the space in place of the T.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _not_rfc3339(field)
    try:
        if match[1] == "60":
            return _micros_of_leap_second(text, field)
        return micros_from_datetime(datetime.fromisoformat(text.upper()), field=field)
    except ValueError:
        raise _not_rfc3339(field) from None


def text_from_micros(micros: int) -> str:
    """Return RFC 3339 in UTC with Z and no more digits of a second than needed.

    `micros` must lie between `MICROS_MIN` and `MICROS_MAX`.

    Example:
        >>> text_from_micros(1_500_000), text_from_micros(0)
        ('1970-01-01T00:00:01.5Z', '1970-01-01T00:00:00Z')
    """
    text = (_EPOCH + timedelta(microseconds=micros)).isoformat()[:-6]
    return f"{text.rstrip('0') if micros % MICROS_PER_SECOND else text}Z"


def _micros_of_leap_second(text: str, field: str) -> int:
    """Return the last microsecond before a leap second; only UTC's last minute has one."""
    minute = _FRACTION.sub("", text.upper()).replace(":60", ":59", 1)
    micros = micros_from_datetime(datetime.fromisoformat(minute), field=field)
    if micros % MICROS_PER_DAY != MICROS_PER_DAY - MICROS_PER_SECOND:
        raise _not_rfc3339(field)
    return micros + MICROS_PER_SECOND - 1


def _not_rfc3339(field: str) -> InvalidInput:
    return InvalidInput(
        f"{field} must be an RFC 3339 time with a zone, for example 2026-03-01T14:00:00Z", field=field
    )
