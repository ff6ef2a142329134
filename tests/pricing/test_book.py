"""Cards, times of day, explanations, the catalogue, and loading late."""

import subprocess
import sys
from collections.abc import Callable

from bursar.core.usage import RateLine, ServiceTier, UsageEvent
from bursar.pricing.cards import rate_card
from bursar.pricing.catalogue import CatalogueModel, catalogue
from bursar.pricing.engine import PriceBook
from bursar.pricing.overrides import OverrideKind, PriceOverride

MakeEvent = Callable[..., UsageEvent]

AT = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
BOOK = PriceBook()


def test_the_same_lines_are_the_same_card_wherever_they_come_from() -> None:
    lines = [RateLine("output_tokens", 2), RateLine("input_tokens", 1)]
    one = rate_card("openai", "gpt-4o", ServiceTier.STANDARD, lines, "one release")
    other = rate_card("openai", "gpt-4o", ServiceTier.STANDARD, reversed(lines), "another release")

    assert one.digest == other.digest
    assert one.lines == other.lines


def test_another_price_tier_or_model_is_another_card() -> None:
    lines = [RateLine("input_tokens", 1)]
    cards = [
        rate_card("openai", "gpt-4o", ServiceTier.STANDARD, lines, ""),
        rate_card("openai", "gpt-4o", ServiceTier.BATCH, lines, ""),
        rate_card("openai", "gpt-4", ServiceTier.STANDARD, lines, ""),
        rate_card("openai", "gpt-4o", ServiceTier.STANDARD, [RateLine("input_tokens", 2)], ""),
    ]

    assert len({card.digest for card in cards}) == len(cards)


def test_a_nightly_discount_begins_and_ends_to_the_second(event: MakeEvent) -> None:
    def at(time: str) -> int | None:
        return BOOK.price(event("deepseek-chat", at=f"2025-06-02T{time}", input_tokens=1_000)).computed_nusd

    assert [at(time) for time in ("00:29:59", "00:30:00", "16:29:59", "16:30:00")] == [
        135_000,
        270_000,
        270_000,
        135_000,
    ]


def test_an_explanation_tells_the_card_the_lines_and_the_decision(event: MakeEvent) -> None:
    explained = BOOK.explain(
        event(
            "claude-sonnet-4-5",
            "anthropic",
            "2026-01-15T00:00:00",
            input_tokens=250_000,
            output_tokens=100,
            reported_nusd=0,
        )
    )

    assert explained.price.card is not None
    assert explained.card_id == explained.price.card.digest.hex()
    assert [(line.units, line.line.unit, line.line.from_context_tokens) for line in explained.lines] == [
        (250_000, "input_tokens", 200_000),
        (100, "output_tokens", 200_000),
    ]
    told = " ".join(explained.sentences)
    assert "250000 input_tokens at 6.00 USD per million." in told
    assert "zero beside tokens counts as not reported; what counts is 1.50225 USD" in told


def test_an_explanation_names_the_unit_that_has_no_price(event: MakeEvent) -> None:
    explained = BOOK.explain(event("gpt-4o", "openai", input_tokens=1, output_audio_tokens=5))

    assert explained.unpriced_units == ("output_audio_tokens",)
    assert explained.price.cost_nusd is None
    assert any("no price for output_audio_tokens" in sentence for sentence in explained.sentences)


def test_an_unknown_model_is_explained_too(event: MakeEvent) -> None:
    explained = BOOK.explain(event("no-such-model", "acme", input_tokens=1))

    assert explained.card is None
    assert explained.card_id is None
    assert "is on no price list" in explained.sentences[0]
    assert "unpriced" in explained.sentences[-1]


def test_a_sum_that_no_ledger_column_holds_is_unpriced(event: MakeEvent) -> None:
    dear = PriceOverride(
        pattern="dear", kind=OverrideKind.ABSOLUTE, lines=(RateLine("input_tokens", 10**15),)
    )
    book = PriceBook([dear])

    assert book.price(event("dear", input_tokens=9_223_372_036)).computed_nusd == 9_223_372_036 * 10**9
    assert book.price(event("dear", input_tokens=9_223_372_037)).computed_nusd is None


def test_a_book_stays_within_its_bound_and_right(event: MakeEvent) -> None:
    book = PriceBook()
    for number in range(5_000):
        book.price(event(f"model-{number}", "acme"))

    assert len(book._by_tier[ServiceTier.STANDARD]) <= 4_096
    assert book.price(event("gpt-4o", "openai", input_tokens=1)).computed_nusd == 2_500


def test_the_catalogue_shows_list_prices_and_an_organisations_own() -> None:
    own = PriceOverride(pattern="openai/gpt-4o", kind=OverrideKind.PERCENT, percent_bp=-1_000)

    def gpt_4o(book: PriceBook) -> CatalogueModel:
        shown = {(model.provider, model.id): model for model in catalogue(book, AT)}
        return shown["openai", "gpt-4o"]

    assert str(gpt_4o(BOOK).input_per_million_usd) == "2.5"
    assert str(gpt_4o(PriceBook([own])).input_per_million_usd) == "2.25"
    assert gpt_4o(BOOK).context_window == 128_000


def test_the_catalogue_has_no_model_without_a_price_and_each_model_once() -> None:
    shown = list(catalogue(BOOK, AT))

    assert len(shown) > 2_000
    assert len({(model.provider, model.id) for model in shown}) == len(shown)
    assert not any(model.id == "whisper-1" and model.provider == "openai" for model in shown)


def test_importing_the_engine_does_not_load_the_price_list() -> None:
    code = "import sys, bursar.pricing.engine as e; assert 'genai_prices' not in sys.modules; e.warm_up()"
    subprocess.run([sys.executable, "-c", code + "; assert 'genai_prices' in sys.modules"], check=True)
