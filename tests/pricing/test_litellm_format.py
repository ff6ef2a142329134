"""Reading price files in LiteLLM's format."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar.core.errors import InvalidInput
from bursar.core.usage import ServiceTier, UsageEvent
from bursar.pricing.engine import PriceBook
from bursar.pricing.litellm_format import overrides_from_litellm

MakeEvent = Callable[..., UsageEvent]

FILE = """{
  "sample_spec": {"input_cost_per_token": 0.0, "mode": "one of: chat, embedding"},
  "house-model": {
    "litellm_provider": "openai", "mode": "chat",
    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "output_cost_per_reasoning_token": 2e-05,
    "cache_read_input_token_cost": 3.0000000000000004e-07,
    "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06,
    "input_cost_per_token_above_200k_tokens": 6e-06,
    "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "input_cost_per_audio_token": 4e-05,
    "input_cost_per_token_batches": 1.5e-06, "output_cost_per_token_batches": 7.5e-06,
    "input_cost_per_token_flex": 1.5e-06, "input_cost_per_token_priority": 6e-06,
    "search_context_cost_per_query": {
      "search_context_size_low": 0.01, "search_context_size_medium": 0.01, "search_context_size_high": 0.01
    },
    "max_input_tokens": 200000, "supports_vision": true
  },
  "dall-e-9": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
  "broken": {"litellm_provider": "openai", "input_cost_per_token": "much"},
  "dear": {"litellm_provider": "openai", "input_cost_per_token": 2},
  "wild-*": {"litellm_provider": "openai", "input_cost_per_token": 1e-06}
}"""


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook(overrides_from_litellm(FILE).overrides)


def cost(book: PriceBook, event: MakeEvent, **fields: Any) -> int | None:  # noqa: ANN401 - a test's shorthand
    return book.price(event("house-model", "openai", **fields)).computed_nusd


def test_each_kind_of_token_has_its_price(book: PriceBook, event: MakeEvent) -> None:
    assert cost(book, event, input_tokens=1_000, output_tokens=100) == 4_500_000
    assert cost(book, event, reasoning_tokens=100) == 2_000_000
    assert cost(book, event, cache_read_tokens=1_000) == 300_000
    assert cost(book, event, cache_write_5m_tokens=1_000, cache_write_1h_tokens=1_000) == 9_750_000
    assert cost(book, event, input_audio_tokens=1_000) == 40_000_000
    assert cost(book, event, web_searches=1) == 10_000_000


def test_a_context_tier_holds_for_the_whole_call(book: PriceBook, event: MakeEvent) -> None:
    assert cost(book, event, input_tokens=200_000) == 600_000_000
    assert cost(book, event, input_tokens=200_001) == 1_200_006_000


def test_service_tiers_stand_on_the_standard_price(book: PriceBook, event: MakeEvent) -> None:
    batch = {"service_tier": ServiceTier.BATCH}
    assert cost(book, event, input_tokens=1_000, output_tokens=100, **batch) == 2_250_000
    assert cost(book, event, reasoning_tokens=100, **batch) == 750_000
    assert cost(book, event, cache_read_tokens=1_000, **batch) == 300_000
    assert cost(book, event, input_tokens=1_000, service_tier=ServiceTier.PRIORITY) == 6_000_000


def test_a_context_step_that_a_tier_does_not_name_stays_standard(book: PriceBook, event: MakeEvent) -> None:
    assert cost(book, event, input_tokens=200_001, service_tier=ServiceTier.BATCH) == 1_200_006_000


def test_what_is_left_out_is_reported_with_its_reason() -> None:
    skipped = dict(overrides_from_litellm(FILE).skipped)

    assert set(skipped) == {
        "sample_spec",
        "dall-e-9: output_cost_per_image",
        "dall-e-9",
        "broken",
        "dear",
        "wild-*",
    }
    assert skipped["broken"] == "input_cost_per_token must be a number"


def test_the_given_time_holds_for_every_override() -> None:
    read = overrides_from_litellm(FILE, valid_from=10, valid_to=20)

    assert {(override.valid_from, override.valid_to) for override in read.overrides} == {(10, 20)}


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-1e-06", '"1e999999999"', "1e-99", "true", "[]", "{}"]
)
def test_an_odd_number_leaves_its_model_out(number: str) -> None:
    text = '{"m": {"litellm_provider": "openai", "input_cost_per_token": %s}}' % number  # noqa: UP031
    try:
        read = overrides_from_litellm(text)
    except InvalidInput:
        return

    assert not read.overrides
    assert read.skipped


@pytest.mark.parametrize(
    "text", ["", "[]", "not json", "[" * 100_000, json.dumps({str(i): {} for i in range(20_001)})]
)
def test_anything_but_an_object_of_models_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        overrides_from_litellm(text)
