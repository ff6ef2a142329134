"""The list of models with their present prices, for people and for `/v1/models`.

    listing, PriceBook  →  catalogue  →  `/v1/models`, `/v1/pricing`, `bursar models`

Edge values: prices are decimals in US dollars per million tokens. Not here: routes.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from bursar.core.usage import RateCard
from bursar.pricing import units
from bursar.pricing.engine import PriceBook
from bursar.pricing.listing import Listed, listed_models
from bursar.pricing.units import RATE_E6_PER_USD_PER_MILLION


class CatalogueModel(NamedTuple):
    """One model as a price list shows it. A price is None where the model has none.

    Prices hold for the smallest context at the standard tier, at the moment asked for;
    `has_context_tiers` says that longer contexts cost more.
    """

    id: str
    name: str
    provider: str
    context_window: int | None
    input_per_million_usd: Decimal | None
    output_per_million_usd: Decimal | None
    cache_read_per_million_usd: Decimal | None
    cache_write_per_million_usd: Decimal | None
    has_context_tiers: bool


def catalogue(book: PriceBook, at: int) -> Iterator[CatalogueModel]:
    """Yield every listed model with the prices `book` gives at `at` (microseconds UTC).

    Models without a price that counts tokens are left out. One walk compiles about 2,300
    cards in a tenth of a second: keep its result for a while.
    """
    for listed in listed_models():
        card = book.card_of(listed, at)
        if card is not None:
            yield as_sold(listed, card)


def as_sold(listed: Listed, card: RateCard) -> CatalogueModel:
    """Return a model as a list shows it, with the base prices of `card`."""
    rates = _base_rates_usd(card)
    return CatalogueModel(
        id=listed.model,
        name=listed.name or listed.model,
        provider=listed.provider,
        context_window=listed.context_tokens,
        input_per_million_usd=rates.get(units.INPUT),
        output_per_million_usd=rates.get(units.OUTPUT),
        cache_read_per_million_usd=rates.get(units.CACHE_READ),
        cache_write_per_million_usd=rates.get(units.CACHE_WRITE_5M),
        has_context_tiers=any(line.from_context_tokens for line in card.lines),
    )


def _base_rates_usd(card: RateCard) -> dict[str, Decimal]:
    return {
        line.unit: Decimal(line.nusd_per_unit_e6) / RATE_E6_PER_USD_PER_MILLION
        for line in card.lines
        if line.from_context_tokens == 0
    }
