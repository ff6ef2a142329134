"""A model's prices through time, compiled to cards that price an event in one step.

    Timeline of Prices, overrides  →  Course  →  CompiledCard of a moment

Pure. Not here: finding the model (`aliases`), multiplying (`engine`).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bursar.core.usage import RateCard, RateLine, ServiceTier
from bursar.pricing.cards import CompiledCard, compile_card, rate_card
from bursar.pricing.derived import completed
from bursar.pricing.overrides import PriceOverride
from bursar.pricing.timeline import BEGINNING, Period, Prices, Timeline, Window, from_moment


class Identity(NamedTuple):
    """Whose prices these are: what goes into each card."""

    provider: str
    model: str
    tier: ServiceTier


class _Span(NamedTuple):
    compiled: CompiledCard | None
    windows: tuple[tuple[Window, CompiledCard | None], ...]


class Course:
    """Which compiled card applies at which moment.

    Attributes:
        only: The card, when one holds for all time: the hot path then asks nothing more.
            None when it depends on the moment, or when no price is known at all.
    """

    __slots__ = ("_spans", "_starts", "only")

    def __init__(self, identity: Identity, timeline: Timeline) -> None:
        assert timeline[0].start == BEGINNING, "a timeline covers all time"  # noqa: S101 - only code can break it
        cards: dict[bytes, CompiledCard] = {}
        self._starts = [period.start for period in timeline]
        self._spans = [_span(identity, period, cards) for period in timeline]
        first = self._spans[0]
        self.only = first.compiled if len(self._spans) == 1 and not first.windows else None

    def at(self, moment: int) -> CompiledCard | None:
        """Return the card for usage at `moment` (microseconds UTC), None if no price is known."""
        span = self._spans[bisect_right(self._starts, moment) - 1]
        for window, compiled in reversed(span.windows):
            if window.holds(moment):
                return compiled
        return span.compiled


def with_overrides(
    identity: Identity, listed: Timeline, strongest_first: Sequence[PriceOverride]
) -> Timeline:
    """Return `listed` with each moment's strongest valid override applied."""
    if not strongest_first:
        return listed
    starts = {period.start for period in listed}
    for override in strongest_first:
        starts |= {override.valid_from} | ({override.valid_to} if override.valid_to is not None else set())
    periods: list[Period] = []
    for start in sorted(starts):
        period = from_moment(listed, start)[0]
        winner = next((override for override in strongest_first if override.holds(start)), None)
        periods.append(period if winner is None else _overridden(identity, period, winner))
    return tuple(periods)


def _overridden(identity: Identity, period: Period, override: PriceOverride) -> Period:
    def change(prices: Prices | None) -> Prices | None:
        applied = override.applied(prices)
        return applied and Prices(
            completed(identity.provider, identity.model, applied.by_unit), applied.origin
        )

    return period.mapped(change)


def _span(identity: Identity, period: Period, cards: dict[bytes, CompiledCard]) -> _Span:
    windows = tuple((window, _compiled(identity, window.prices, cards)) for window in period.windows)
    return _Span(_compiled(identity, period.prices, cards), windows)


def _compiled(
    identity: Identity, prices: Prices | None, cards: dict[bytes, CompiledCard]
) -> CompiledCard | None:
    if prices is None:
        return None
    card = _card(identity, prices)
    return cards.setdefault(card.digest, compile_card(card))


def _card(identity: Identity, prices: Prices) -> RateCard:
    return rate_card(*identity, _lines(prices.by_unit), prices.origin)


def _lines(by_unit: Mapping[str, tuple[tuple[int, int], ...]]) -> list[RateLine]:
    return [RateLine(unit, rate, start) for unit, tiers in by_unit.items() for start, rate in tiers]
