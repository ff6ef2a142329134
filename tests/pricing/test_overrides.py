"""An organisation's own prices: which one wins, when, and what it does to the rest."""

from collections.abc import Callable
from typing import Any

import pytest

from bursar.core.errors import InvalidInput
from bursar.core.usage import RateLine, ServiceTier, UsageEvent
from bursar.pricing.engine import PriceBook
from bursar.pricing.overrides import OverrideKind, PriceOverride
from bursar.pricing.timeline import DAY_US

MakeEvent = Callable[..., UsageEvent]

NOON = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
LIST_NUSD = 2_500 * 1_000


def absolute(pattern: str, usd_per_million: int, **fields: Any) -> PriceOverride:  # noqa: ANN401 - a test's shorthand
    line = RateLine("input_tokens", usd_per_million * 10**9)
    return PriceOverride(pattern=pattern, kind=OverrideKind.ABSOLUTE, lines=(line,), **fields)


def percent(pattern: str, basis_points: int, **fields: Any) -> PriceOverride:  # noqa: ANN401 - a test's shorthand
    return PriceOverride(pattern=pattern, kind=OverrideKind.PERCENT, percent_bp=basis_points, **fields)


@pytest.fixture
def thousand(event: MakeEvent) -> MakeEvent:
    def make(model: str = "gpt-4o", provider: str = "openai", **fields: Any) -> UsageEvent:  # noqa: ANN401 - a test's shorthand
        return event(model, provider, "2026-11-01T12:00:00", input_tokens=1_000, **fields)

    return make


def cost(event: UsageEvent, *overrides: PriceOverride) -> int | None:
    return PriceBook(overrides).price(event).computed_nusd


def test_an_exact_pattern_beats_a_wildcard_in_either_order(thousand: MakeEvent) -> None:
    exact, wild = absolute("gpt-4o", 1), absolute("openai/gpt-4*", 9)

    assert cost(thousand(), exact, wild) == cost(thousand(), wild, exact) == 1_000_000


def test_provider_and_model_beat_model_alone(thousand: MakeEvent) -> None:
    assert cost(thousand(), absolute("gpt-4o", 9), absolute("openai/gpt-4o", 1)) == 1_000_000


def test_of_two_wildcards_the_longer_one_wins(thousand: MakeEvent) -> None:
    assert cost(thousand(), absolute("*", 9), absolute("openai/*", 8), absolute("gpt-4?*", 7)) == 8_000_000


def test_of_equal_patterns_the_newer_wins_while_it_holds(event: MakeEvent) -> None:
    old, new = absolute("gpt-4o", 9), absolute("gpt-4o", 1, valid_from=NOON, valid_to=NOON + DAY_US)
    book = PriceBook([new, old])

    def at(moment: str) -> int | None:
        return book.price(event("gpt-4o", "openai", moment, input_tokens=1)).computed_nusd

    assert at("2026-11-01T11:59:59") == 9_000
    assert at("2026-11-01T12:00:00") == 1_000
    assert at("2026-11-02T11:59:59") == 1_000
    assert at("2026-11-02T12:00:00") == 9_000


def test_outside_its_time_the_list_price_holds(thousand: MakeEvent) -> None:
    assert cost(thousand(), absolute("gpt-4o", 1, valid_from=NOON + 1)) == LIST_NUSD
    assert cost(thousand(), absolute("gpt-4o", 1, valid_to=NOON)) == LIST_NUSD


def test_a_percentage_changes_every_unit_and_tier_of_the_list_price(thousand: MakeEvent) -> None:
    discount = percent("openai/*", -1_500)
    used = thousand(output_tokens=10, cache_read_tokens=100)

    assert cost(used, discount) == (1_000 * 2_500 + 10 * 10_000 + 100 * 1_250) * 85 // 100
    batch = thousand(service_tier=ServiceTier.BATCH)
    assert cost(batch, discount) == 1_000 * 1_250 * 85 // 100


def test_a_percentage_of_an_unknown_price_is_unknown(thousand: MakeEvent) -> None:
    assert cost(thousand("nobody-lists-this"), percent("*", -1_500)) is None


def test_an_own_price_makes_an_unlisted_model_priced(thousand: MakeEvent) -> None:
    used = thousand("My-Llama", "vllm")

    assert cost(used, absolute("vllm/my-llama", 2)) == cost(used, absolute("my-*", 2)) == 2_000_000


def test_a_price_for_one_tier_leaves_the_others(thousand: MakeEvent) -> None:
    batch_only = absolute("gpt-4o", 1, service_tier=ServiceTier.BATCH)

    assert cost(thousand(), batch_only) == LIST_NUSD
    assert cost(thousand(service_tier=ServiceTier.BATCH), batch_only) == 1_000_000


def test_a_price_for_the_events_tier_beats_one_for_every_tier(thousand: MakeEvent) -> None:
    batch, every = absolute("gpt-4o", 1, service_tier=ServiceTier.BATCH), absolute("gpt-4o", 9)

    assert cost(thousand(service_tier=ServiceTier.BATCH), batch, every) == 1_000_000


def test_a_pattern_means_the_name_as_sent_and_the_canonical_one(thousand: MakeEvent) -> None:
    used = thousand("openrouter/anthropic/claude-sonnet-4", "")

    for pattern in (
        "openrouter/anthropic/claude-sonnet-4",
        "anthropic/claude-sonnet-4",
        "openrouter/*",
    ):
        assert cost(used, absolute(pattern, 1)) == 1_000_000


def test_another_sellers_price_is_not_touched(thousand: MakeEvent) -> None:
    assert cost(thousand(provider="azure"), absolute("openai/gpt-4o", 1)) == LIST_NUSD


def test_the_card_says_whose_price_it_is(thousand: MakeEvent) -> None:
    card = PriceBook([absolute("gpt-4o", 1)]).price(thousand()).card

    assert card is not None
    assert "organisation's own price" in card.origin


@pytest.mark.parametrize(
    "fields",
    [
        {"pattern": " ", "kind": OverrideKind.PERCENT},
        {"pattern": "x", "kind": OverrideKind.PERCENT, "percent_bp": -10_001},
        {"pattern": "x", "kind": OverrideKind.PERCENT, "lines": (RateLine("input_tokens", 1),)},
        {"pattern": "x", "kind": OverrideKind.PERCENT, "valid_from": 5, "valid_to": 5},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE, "lines": (RateLine("letters", 1),)},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE, "lines": (RateLine("input_tokens", -1),)},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE, "lines": (RateLine("input_tokens", 10**16),)},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE, "lines": (RateLine("input_tokens", 1, 5),)},
        {"pattern": "x", "kind": OverrideKind.ABSOLUTE, "lines": (RateLine("request", 1),) * 2},
    ],
)
def test_an_impossible_override_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        PriceOverride(**fields)
