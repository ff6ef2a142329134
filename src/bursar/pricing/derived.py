"""What providers charge where their price list is silent: the written-down rules.

    listed prices of a period  →  tier rule  →  completed prices  →  rate card lines

Each rule is a provider's own published rule or an upper bound of it, never a guess that
could come out too low. Whatever no rule covers stays without a price, and an event that
uses it stays unpriced.

Sources
    Anthropic, "Prompt caching": a 5-minute write costs 1.25 × and a 1-hour write 2 × the
    base input price. "Message Batches": everything at 50 %, cache multipliers stack.
    OpenAI, "Batch API" and "Flex processing": input and output at 50 %.
    Google, "Gemini API pricing", batch: input and output at 50 %, caching stays standard.
    Mistral, "Batch inference": 50 %. Azure OpenAI, "Global batch": 50 %.
    OpenAI and DeepSeek bill reasoning ("thinking") tokens as output tokens.
"""

from collections.abc import Mapping
from typing import Final

from bursar.core.usage import ServiceTier
from bursar.pricing import units
from bursar.pricing.timeline import Tiered

_HALF_ALL: Final = frozenset({"anthropic", "mistral"})
_HALF_BUT_CACHE_READS: Final = frozenset({"openai", "azure", "google"})
_FLEX_AS_BATCH: Final = frozenset({"openai"})
_NOT_TOKENS: Final = frozenset({units.WEB_SEARCH, units.REQUEST})
_ONE_PRICE_FOR_EVERY_INPUT: Final = frozenset({"google"})
"""Google lists "text / image / video / audio" as one price unless it names audio apart."""


def tier_by_rule(
    provider: str, tier: ServiceTier, standard: Mapping[str, Tiered], *, has_flex: bool
) -> Mapping[str, Tiered] | None:
    """Return the tier's prices by the provider's general rule, None if it publishes none.

    `has_flex` says that the price list knows flex for this model at some time: the rule
    reaches only models that are sold that way. There is no rule for priority.
    """
    if tier is ServiceTier.FLEX:
        return _halved(standard, frozenset()) if provider in _FLEX_AS_BATCH and has_flex else None
    if tier is not ServiceTier.BATCH:
        return None
    if provider in _HALF_ALL:
        return _halved(standard, frozenset())
    if provider in _HALF_BUT_CACHE_READS:
        return _halved(standard, frozenset({units.CACHE_READ}))
    return None


def completed(provider: str, model: str, listed: Mapping[str, Tiered]) -> dict[str, Tiered]:
    """Return `listed` with a price for each unit that a written-down rule covers.

    Reasoning is output. A cached token without its own price costs what an uncached one
    costs: no discount is an upper bound. Cache writes of Claude models follow Anthropic's
    multipliers, of others the one write price there is, else plain input. Image input is
    billed as input tokens. Audio in and out, image out and searches are never guessed.
    """
    prices = dict(listed)
    if units.OUTPUT in listed:
        prices.setdefault(units.REASONING, listed[units.OUTPUT])
    if units.INPUT not in listed:
        return prices
    base = listed[units.INPUT]
    prices.setdefault(units.CACHE_READ, base)
    prices.setdefault(units.INPUT_IMAGE, base)
    is_claude = "claude" in model
    prices.setdefault(units.CACHE_WRITE_5M, _scaled(base, 5, 4) if is_claude else base)
    if is_claude:
        prices.setdefault(units.CACHE_WRITE_1H, _scaled(base, 2, 1))
    prices.setdefault(units.CACHE_WRITE_1H, prices[units.CACHE_WRITE_5M])
    if provider in _ONE_PRICE_FOR_EVERY_INPUT and not is_claude:
        prices.setdefault(units.INPUT_AUDIO, base)
    return prices


def _halved(prices: Mapping[str, Tiered], except_for: frozenset[str]) -> dict[str, Tiered]:
    keep = _NOT_TOKENS | except_for
    return {unit: tiers if unit in keep else _scaled(tiers, 1, 2) for unit, tiers in prices.items()}


def _scaled(tiers: Tiered, numerator: int, denominator: int) -> Tiered:
    """Return the rates × numerator / denominator, rounded up to the next 10⁻¹⁵ USD a unit."""
    return tuple((threshold, -(-rate * numerator // denominator)) for threshold, rate in tiers)
