"""Rate cards and the integer form that prices an event.

`rate_card` gives a card its identity, `compile_card` turns it into one row of twelve
integers for each context tier. Money is exact: a product of two integers, summed, and
rounded up once by the caller. Not here: which card applies (`timeline`, `engine`).
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from bursar.core.usage import RateCard, RateLine, ServiceTier, UsageEvent
from bursar.pricing.units import REQUEST, UNITS

NO_RATE: Final = 1 << 200
"""Stands for "this card has no price for the unit". Counts stay under 10¹² and rates under
10²⁴, so a sum at or above it can only mean that such a unit was used."""


Rates = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""One integer per unit, in the order of `units.UNITS`."""

_DIGEST_BYTES: Final = 16
_ORDER: Final = {unit: position for position, unit in enumerate(UNITS)}


class CompiledCard(NamedTuple):
    """A rate card ready for the hot path.

    `base` prices an event whose context reaches no tier. `tiers` holds (threshold, rates),
    the highest threshold first; empty for most models.
    """

    card: RateCard
    base: Rates
    tiers: tuple[tuple[int, Rates], ...]

    def rates_for(self, context_tokens: int) -> Rates:
        """Return the rates of the highest tier whose threshold the context exceeds."""
        for threshold, rates in self.tiers:
            if context_tokens > threshold:
                return rates
        return self.base


def rate_card(
    provider: str, model: str, tier: ServiceTier, lines: Iterable[RateLine], origin: str
) -> RateCard:
    """Return a card whose lines stand in `units.UNITS` order, each unit's tiers ascending.

    The digest covers provider, model, tier and lines, not `origin`: the same prices from
    another release of the price data are the same card.
    """
    ordered = tuple(sorted(lines, key=_line_order))
    text = "\n".join([provider, model, str(int(tier)), *map(_line_text, ordered)])
    digest = blake2b(text.encode(), digest_size=_DIGEST_BYTES, person=b"bursar-ratecard").digest()
    return RateCard(
        digest=digest, provider=provider, model=model, service_tier=tier, lines=ordered, origin=origin
    )


def compile_card(card: RateCard) -> CompiledCard:
    """Return the integer rows of `card`, one for the base and one for each context tier."""
    thresholds = sorted({line.from_context_tokens for line in card.lines} - {0}, reverse=True)
    return CompiledCard(
        card, _rates_at(card, 0), tuple((threshold, _rates_at(card, threshold)) for threshold in thresholds)
    )


def applied_lines(card: RateCard, context_tokens: int) -> dict[str, RateLine]:
    """Return the one line of each unit that applies to an event with this context."""
    applied: dict[str, RateLine] = {}
    for line in card.lines:  # ascending per unit, so the last that fits wins
        if line.from_context_tokens == 0 or context_tokens > line.from_context_tokens:
            applied[line.unit] = line
    return applied


def count_of(event: UsageEvent, unit: str) -> int:
    """Return how many of `unit` the event used; every event is one request."""
    return 1 if unit == REQUEST else int(getattr(event, unit))


def context_of(event: UsageEvent) -> int:
    """Return the tokens that fill the context and so decide its tier: all input, once each."""
    return (
        event.input_tokens
        + event.cache_read_tokens
        + event.cache_write_5m_tokens
        + event.cache_write_1h_tokens
        + event.input_audio_tokens
        + event.input_image_tokens
    )


def _rates_at(card: RateCard, threshold: int) -> Rates:
    row = [NO_RATE] * len(UNITS)
    row[_ORDER[REQUEST]] = 0  # most providers charge nothing for the request itself
    for line in card.lines:
        if line.from_context_tokens <= threshold:
            row[_ORDER[line.unit]] = line.nusd_per_unit_e6
    a, b, c, d, e, f, g, h, i, j, k, r = row
    return a, b, c, d, e, f, g, h, i, j, k, r


def _line_order(line: RateLine) -> tuple[int, int]:
    return _ORDER[line.unit], line.from_context_tokens


def _line_text(line: RateLine) -> str:
    return f"{line.unit} {line.nusd_per_unit_e6} {line.from_context_tokens}"
