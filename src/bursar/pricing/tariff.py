"""What one model costs at one service tier, through all time: list, corrections, rules.

    Listed + tier  →  corrected standard prices  →  tier's prices  →  completed  →  Timeline

A tier whose price is neither listed nor covered by a published rule stays without a price:
it is never charged as standard. Not here: an organisation's overrides (`engine`).
"""

from collections.abc import Mapping
from typing import Final

from bursar.core.usage import ServiceTier
from bursar.pricing.corrections import corrected
from bursar.pricing.derived import completed, tier_by_rule
from bursar.pricing.listing import Listed, tier_variants
from bursar.pricing.timeline import Period, Prices, Tiered, Timeline

_END: Final = 2**63
Variants = tuple[tuple[int, Mapping[str, Tiered]], ...]


def tariff(listed: Listed, seller: str, tier: ServiceTier) -> Timeline:
    """Return the prices of every unit that has one, through time.

    `seller` is the provider the event names; it differs from `listed.provider` where the
    seller resells at the maker's price (Azure, Vertex). The maker's listed tiers do not
    bind the reseller, whose own rules apply.
    """
    timeline = corrected(listed)
    if tier is not ServiceTier.STANDARD:
        variants = tier_variants(listed, tier) if seller == listed.provider else ()
        timeline = _at_tier(timeline, seller, tier, variants)
    return tuple(period.mapped(lambda prices: _completed(listed, prices)) for period in timeline)


def _at_tier(timeline: Timeline, seller: str, tier: ServiceTier, variants: Variants) -> Timeline:
    """Return the tier's prices beside each standard period, split where a listed rate begins.

    A listed tier rate often carries the day on which it was verified, not the day on which
    it began. So the first one reaches back to the start of the standard price it was
    listed beside, but not beyond: an older price had another tier price.
    """
    periods: list[Period] = []
    ends = [period.start for period in timeline[1:]] + [_END]
    for period, end in zip(timeline, ends, strict=True):
        starts = sorted({max(start, period.start) for start, _ in variants if start < end})
        for index, start in enumerate(starts or [period.start]):
            begins = period.start if index == 0 else start
            listed_now = tuple(rates for valid_from, rates in variants if valid_from <= start)
            periods.append(_tier_period(period._replace(start=begins), seller, tier, listed_now, variants))
    return tuple(periods)


def _tier_period(
    period: Period,
    seller: str,
    tier: ServiceTier,
    listed_now: tuple[Mapping[str, Tiered], ...],
    variants: Variants,
) -> Period:
    def change(prices: Prices | None) -> Prices | None:
        if prices is None:
            return None
        if listed_now:
            return _listed_tier(prices, tier, listed_now)
        ruled = tier_by_rule(seller, tier, prices.by_unit, has_flex=bool(variants))
        if ruled is None:
            return None
        return Prices(ruled, f"{prices.origin}, {tier.name.lower()} by {seller}'s general rule")

    return period.mapped(change)


def _listed_tier(
    standard: Prices, tier: ServiceTier, rates_first_wins: tuple[Mapping[str, Tiered], ...]
) -> Prices:
    """Return `standard` with the units the tier changes; the first listed rate of a unit wins."""
    by_unit = dict(standard.by_unit)
    for rates in reversed(rates_first_wins):
        by_unit.update(rates)
    return Prices(by_unit, f"{standard.origin}, {tier.name.lower()} rates as listed")


def _completed(listed: Listed, prices: Prices | None) -> Prices | None:
    return prices and Prices(completed(listed.provider, listed.model, prices.by_unit), prices.origin)
