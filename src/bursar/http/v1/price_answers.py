"""What the price routes answer: overrides, rate cards and explanations as JSON.

Money and rates are decimal strings with every digit; a rate is in US dollars per million units.
Not here: what is sent (`price_forms`), routes (`prices`).
"""

from decimal import Decimal
from typing import Final

from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import MICROS_MIN, text_from_micros
from bursar.core.usage import RateCard, UsageEvent
from bursar.http.v1.price_forms import ALWAYS
from bursar.pricing.explanation import Explanation, PricedLine
from bursar.pricing.overrides import OverrideKind, PriceOverride
from bursar.pricing.ports import StoredOverride
from bursar.pricing.units import UNITS

ID: Final = "prc"
_AMOUNT_DECIMALS: Final = 15


def override_body(stored: StoredOverride, now: int) -> dict[str, object]:
    """Return an override as JSON."""
    override = stored.override
    is_absolute = override.kind is OverrideKind.ABSOLUTE
    starts = sorted({line.from_context_tokens for line in override.lines} - {0})
    return {
        "id": text_from_id(ID, stored.id),
        "pattern": override.pattern,
        "state": _state(override, now),
        "valid_from": ALWAYS if override.valid_from < MICROS_MIN else text_from_micros(override.valid_from),
        "valid_to": None if override.valid_to is None else text_from_micros(override.valid_to),
        "per_million": _per_million(override, 0) if is_absolute else None,
        "context_tiers": [{"above_tokens": at, "per_million": _per_million(override, at)} for at in starts],
        "percent": None if is_absolute else format(Decimal(override.percent_bp) / 100, "f"),
        "service_tier": None if override.service_tier is None else override.service_tier.name.lower(),
        "note": override.note,
        "created_at": text_from_micros(stored.created_at),
        "created_by": stored.actor,
    }


def explanation_body(event: UsageEvent, explained: Explanation) -> dict[str, object]:
    """Return an explanation as JSON: what was asked, each factor of the sum, and what counts."""
    price = explained.price
    return {
        "provider": event.subject.provider or None,
        "model": event.subject.model,
        "taken_for": explained.model._asdict(),
        "at": text_from_micros(event.occurred_at),
        "card": None if explained.card is None else card_body(explained.card),
        "lines": [_factor(line) for line in explained.lines],
        "unpriced_units": explained.unpriced_units,
        "context_tokens": explained.context_tokens,
        "computed_cost_usd": _money(price.computed_nusd),
        "reported_cost_usd": _money(explained.reported_nusd),
        "cost_usd": _money(price.cost_nusd),
        "sentences": explained.sentences,
    }


def card_body(card: RateCard) -> dict[str, object]:
    """Return a rate card as JSON."""
    return {
        "id": card.digest.hex(),
        "provider": card.provider,
        "model": card.model,
        "service_tier": card.service_tier.name.lower(),
        "origin": card.origin,
        "lines": [
            {
                "unit": line.unit,
                "usd_per_million": usd_per_million(line.nusd_per_unit_e6),
                "from_context_tokens": line.from_context_tokens,
            }
            for line in card.lines
        ],
    }


def usd_per_million(rate: int) -> str:
    """Return a rate (nano-USD × 10⁶ for one unit, so nano-USD for a million) as decimal text."""
    return text_from_nusd(rate)


def _state(override: PriceOverride, now: int) -> str:
    if now < override.valid_from:
        return "scheduled"
    return "active" if override.holds(now) else "ended"


def _per_million(override: PriceOverride, start: int) -> dict[str, str]:
    lines = {line.unit: line.nusd_per_unit_e6 for line in override.lines if line.from_context_tokens == start}
    return {unit: usd_per_million(lines[unit]) for unit in UNITS if unit in lines}


def _factor(priced: PricedLine) -> dict[str, object]:
    """Return one factor of the sum; its amount is exact, before the one rounding up."""
    whole, rest = divmod(priced.amount_nusd_e6, 10**_AMOUNT_DECIMALS)
    return {
        "unit": priced.line.unit,
        "units": priced.units,
        "usd_per_million": usd_per_million(priced.line.nusd_per_unit_e6),
        "from_context_tokens": priced.line.from_context_tokens,
        "amount_usd": f"{whole}.{rest:0{_AMOUNT_DECIMALS}d}".rstrip("0").rstrip("."),
    }


def _money(amount_nusd: int | None) -> str | None:
    return None if amount_nusd is None else text_from_nusd(amount_nusd)
