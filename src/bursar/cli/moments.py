"""Instants and spans as people read and write them at the command line.

RFC 3339 text from the API  →  moment_text, span_text  →  tables and sentences
what a person typed         →  instant_of              →  the API

Not here: what a window's ends are (`core.periods`).
"""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_BEGINNING = "0001-"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment_text(at: str | None, zone: str = "UTC", *, to_seconds: bool = False) -> str:
    """Return an RFC 3339 instant to the minute by a zone's clocks, "-" where there is none.

    Example:
        >>> moment_text("2026-11-24T23:00:00Z", "Europe/Berlin")
        '2026-11-25 00:00'
    """
    # A total budget's window begins with the calendar, and no clock reads that far back.
    if at is None or at.startswith(_BEGINNING):
        return "-"
    moment = datetime.fromisoformat(at).astimezone(ZoneInfo(zone))
    return f"{moment:%Y-%m-%d %H:%M:%S}" if to_seconds else f"{moment:%Y-%m-%d %H:%M}"


def seconds_until(at: str) -> int:
    """Return the whole seconds from now to an RFC 3339 instant; 0 where it is past."""
    left = datetime.fromisoformat(at) - datetime.now(UTC)
    return max(0, int(left.total_seconds()))


def span_text(seconds: int) -> str:
    """Return a span by its two largest units.

    Example:
        >>> span_text(18_720), span_text(59)
        ('5 h 12 min', '59 s')
    """
    parts: list[str] = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"


def instant_of(text: str | None) -> str | None:
    """Return what the API takes for a day or an instant: a day is its first moment in UTC."""
    return f"{text}T00:00:00Z" if text is not None and _DAY.fullmatch(text) else text
