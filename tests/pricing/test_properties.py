"""What must hold for every model and every usage."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices.types as data
from genai_prices.data import providers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bursar.core.usage import ServiceTier, UsageEvent
from bursar.pricing import units
from bursar.pricing.aliases import resolve
from bursar.pricing.cards import context_of
from bursar.pricing.corrections import corrections
from bursar.pricing.engine import PriceBook
from bursar.pricing.listing import Listed, listed_models

MakeEvent = Callable[..., UsageEvent]

BOOK = PriceBook()
MODELS = list(listed_models())
COUNTED = [unit for unit in units.UNITS if unit != units.REQUEST]
COUNTS = st.dictionaries(st.sampled_from(COUNTED), st.integers(0, 10**7), max_size=6)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 24), timezones=st.just(UTC))  # noqa: DTZ001
TIERS = st.sampled_from(ServiceTier)


def used(
    event: MakeEvent, listed: Listed, counts: dict[str, int], tier: ServiceTier = ServiceTier.STANDARD
) -> UsageEvent:
    made: UsageEvent = event(listed.model, listed.provider, service_tier=tier, **counts)
    return made


@given(st.sampled_from(MODELS), COUNTS, st.sampled_from(COUNTED), TIERS)
def test_more_usage_never_costs_less_and_nothing_costs_less_than_nothing(
    event: MakeEvent, listed: Listed, counts: dict[str, int], unit: str, tier: ServiceTier
) -> None:
    less = BOOK.price(used(event, listed, counts, tier)).computed_nusd
    more = BOOK.price(used(event, listed, {**counts, unit: counts.get(unit, 0) + 1}, tier)).computed_nusd

    assert less is None or less >= 0
    assert less is None or more is None or more >= less


@given(st.sampled_from(MODELS), COUNTS, COUNTS, TIERS)
def test_two_calls_cost_what_one_call_of_both_costs_within_one_context_tier(
    event: MakeEvent, listed: Listed, one: dict[str, int], other: dict[str, int], tier: ServiceTier
) -> None:
    both = {unit: one.get(unit, 0) + other.get(unit, 0) for unit in COUNTED}
    explained = [BOOK.explain(used(event, listed, counts, tier)) for counts in (one, other, both)]
    assume(all(explanation.price.computed_nusd is not None for explanation in explained))
    starts = {line.from_context_tokens for line in explained[0].card.lines}  # type: ignore[union-attr]
    bands = {
        sum(context_of(used(event, listed, counts)) > start for start in starts)
        for counts in (one, other, both)
    }
    assume(len(bands) == 1)

    amounts = [
        sum(line.amount_nusd_e6 for line in explanation.lines if line.line.unit != units.REQUEST)
        for explanation in explained
    ]
    assert amounts[0] + amounts[1] == amounts[2]


@given(st.sampled_from(MODELS), COUNTS, TIERS)
def test_the_explanations_lines_sum_to_the_computed_cost_before_rounding(
    event: MakeEvent, listed: Listed, counts: dict[str, int], tier: ServiceTier
) -> None:
    explained = BOOK.explain(used(event, listed, counts, tier))

    if explained.price.computed_nusd is None:
        assert explained.card is None or explained.unpriced_units
    else:
        exact = sum(Decimal(line.amount_nusd_e6) for line in explained.lines) / 10**6
        assert 0 <= explained.price.computed_nusd - exact < 1
        assert not explained.unpriced_units


@settings(max_examples=400)
@given(st.sampled_from(MODELS), st.tuples(*[st.integers(0, 10**6)] * 4), MOMENTS)
def test_prices_agree_with_the_price_librarys_own_arithmetic(
    event: MakeEvent, listed: Listed, counts: tuple[int, int, int, int], moment: datetime
) -> None:
    """Input, output, cached input and searches of models we do not correct, at any time."""
    entry, provider = _entry(listed)
    assume((listed.provider, listed.model) not in {(made.provider, made.model) for made in corrections()})
    assume(resolve(listed.provider, listed.model) == (listed.provider, listed))
    fresh, output, cached, searches = counts
    at = moment.isoformat()[:19]
    made = event(
        listed.model,
        listed.provider,
        at,
        input_tokens=fresh,
        output_tokens=output,
        cache_read_tokens=cached,
        web_searches=searches,
    )
    explained = BOOK.explain(made)
    assume(explained.price.computed_nusd is not None)

    usage = data.Usage(
        input_tokens=fresh + cached, output_tokens=output, cache_read_tokens=cached, web_searches=searches
    )
    theirs = entry.calc_price(usage, provider, genai_request_timestamp=moment).total_price
    ours = Decimal(sum(line.amount_nusd_e6 for line in explained.lines)) / 10**15

    assert abs(ours - theirs) <= theirs / 10**6


def _entry(listed: Listed) -> tuple[data.ModelInfo, data.Provider]:
    provider = next(provider for provider in providers if provider.id == listed.provider)
    return next(model for model in provider.models if model.id == listed.model), provider
