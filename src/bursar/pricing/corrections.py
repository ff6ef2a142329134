"""Our own dated facts on top of the public price list, read from `corrections.toml`.

    list_timeline  →  corrected  →  tariff

Every fact there names its source. Not here: what organisations negotiate (`overrides`).
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple

from bursar.pricing import units
from bursar.pricing.listing import Listed, find, list_timeline, rate_e6
from bursar.pricing.timeline import (
    BEGINNING,
    UNKNOWN,
    Period,
    Prices,
    Tiered,
    Timeline,
    Window,
    from_moment,
    splice,
)

_PER: Final = {units.WEB_SEARCH: 1_000, units.REQUEST: 1_000}
_PER_TOKENS: Final = 1_000_000


class Correction(NamedTuple):
    """What is to be said about one model: its periods as written, and where they end.

    Without periods it only gives the listed model further `names`.
    """

    provider: str
    model: str
    names: tuple[str, ...]
    until: int | None
    source: str
    periods: tuple[Mapping[str, Any], ...]


def corrected(listed: Listed) -> Timeline:
    """Return the standard prices of a model through time: the list's, corrected by ours."""
    correction = _by_model().get((listed.provider, listed.model))
    if correction is None:
        return list_timeline(listed)
    known = find(listed.provider, listed.model)
    timeline = list_timeline(known) if known is not None and known.model == listed.model else UNKNOWN
    if not correction.periods:
        return timeline
    insert: Timeline = ()
    for raw in correction.periods:
        tail = _periods(correction, raw)
        insert = (*(period for period in insert if period.start < tail[0].start), *tail)
    return splice(timeline, insert, correction.until)


def named(provider: str, name: str) -> Listed | None:
    """Return the model that our corrections give this exact name, None if they give none."""
    correction = _by_name().get((provider, name))
    if correction is None:
        return None
    known = find(provider, correction.model)
    context = known.context_tokens if known else None
    return Listed(provider, correction.model, known.name if known else None, context)


@lru_cache(maxsize=1)
def corrections() -> tuple[Correction, ...]:
    """Return every correction, in the file's order."""
    text = resources.files("bursar.pricing").joinpath("corrections.toml").read_text("utf-8")
    return tuple(
        Correction(
            provider=raw["provider"],
            model=raw["model"],
            names=tuple(raw.get("names", ())),
            until=_moment_us(raw["until"]) if "until" in raw else None,
            source=raw["source"],
            periods=tuple(raw.get("period", ())),
        )
        for raw in tomllib.loads(text)["model"]
    )


@lru_cache(maxsize=1)
def _by_model() -> Mapping[tuple[str, str], Correction]:
    return {(entry.provider, entry.model): entry for entry in corrections()}


@lru_cache(maxsize=1)
def _by_name() -> Mapping[tuple[str, str], Correction]:
    return {(entry.provider, name): entry for entry in corrections() for name in entry.names}


def _periods(correction: Correction, raw: Mapping[str, Any]) -> Timeline:
    start = _moment_us(raw["from"]) if "from" in raw else BEGINNING
    if "as" in raw:
        return _taken_over(correction, raw["as"], start)
    windows = tuple(
        Window(
            _time_of_day_us(window["start"]),
            _time_of_day_us(window["end"]),
            _prices(correction, window["prices"]),
            weekdays_only=window.get("weekdays_only", False),
        )
        for window in raw.get("windows", ())
    )
    return (Period(start, _prices(correction, raw["prices"]), windows),)


def _taken_over(correction: Correction, model: str, start: int) -> Timeline:
    other = find(correction.provider, model)
    return from_moment(corrected(other) if other else UNKNOWN, start)


def _prices(correction: Correction, raw: Mapping[str, Any]) -> Prices:
    by_unit = {unit: _tiered(value, _PER.get(unit, _PER_TOKENS)) for unit, value in raw.items()}
    return Prices(
        by_unit, f"correction of {correction.provider}/{correction.model}'s list price: {correction.source}"
    )


def _tiered(value: str | Mapping[str, str], per: int) -> Tiered:
    steps = {"0": value} if isinstance(value, str) else value
    return tuple(sorted((int(start), rate_e6(Decimal(price), per)) for start, price in steps.items()))


def _moment_us(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * 1_000_000


def _time_of_day_us(moment: time) -> int:
    return (moment.hour * 3600 + moment.minute * 60 + moment.second) * 1_000_000
