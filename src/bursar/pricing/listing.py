"""The bundled public price list, read once and turned into exact integers.

    genai-prices (data)  →  find  →  Listed  →  list_timeline  →  Timeline of Prices

The library is imported on first use, because that takes up to a second: `warm_up` does it
at start. Its prices are decimals in US dollars; here they become nano-USD × 10⁶ for one
unit, exactly but for the tails of floats; a price that cannot is no price. Not here: corrections of the list
(`corrections`), what is sold but not listed (`derived`), aliases (`aliases`).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.core.usage import ServiceTier
from bursar.pricing import units
from bursar.pricing.timeline import BEGINNING, Period, Prices, Tiered, Timeline, Window

if TYPE_CHECKING:
    from genai_prices import types as data

_UNIT_OF_KEY: Final = {
    "input_mtok": (units.INPUT, 1_000_000),
    "output_mtok": (units.OUTPUT, 1_000_000),
    "output_reasoning_mtok": (units.REASONING, 1_000_000),
    "cache_read_mtok": (units.CACHE_READ, 1_000_000),
    "cache_write_mtok": (units.CACHE_WRITE_5M, 1_000_000),
    "cache_write_5m_mtok": (units.CACHE_WRITE_5M, 1_000_000),
    "cache_write_1h_mtok": (units.CACHE_WRITE_1H, 1_000_000),
    "input_audio_mtok": (units.INPUT_AUDIO, 1_000_000),
    "output_audio_mtok": (units.OUTPUT_AUDIO, 1_000_000),
    "input_image_mtok": (units.INPUT_IMAGE, 1_000_000),
    "output_image_mtok": (units.OUTPUT_IMAGE, 1_000_000),
    "web_searches_kcount": (units.WEB_SEARCH, 1_000),
    "requests_kcount": (units.REQUEST, 1_000),
}
"""The list's price key → our unit, and how many units the listed price is for."""

_NOT_COUNTED: Final = frozenset(
    {
        "audio_hours",
        "input_audio_hours",
        "output_audio_hours",
        "input_mchars",
        "input_text_messages_kcount",
        "input_gpixels",
        "input_document_kpages",
        "input_annotated_document_kpages",
        "rerank_searches_kcount",
    }
)
"""Billed by something an event does not count, so a sum of the rest would be too low."""

_VARIANT_OF_TIER: Final = {
    ServiceTier.BATCH: {"processing": "batch"},
    ServiceTier.FLEX: {"service_tier": "flex"},
    ServiceTier.PRIORITY: {"service_tier": "priority"},
}
_NUSD_PER_USD: Final = 1_000_000_000
_ROUNDING_SHARE: Final = 1_000_000
"""A listed price may be changed by at most one part of this when a float's tail is cut."""

_COMPACT_DATE_DIGITS: Final = 8


class InexactPriceError(ValueError):
    """A listed price has more decimals than a rate can hold. Nobody may round it silently."""


class Listed(NamedTuple):
    """One model of the price list, and the provider who sells it."""

    provider: str
    model: str
    name: str | None
    context_tokens: int | None


def warm_up() -> None:
    """Load the price list (up to a second, once per process)."""
    _providers()


@lru_cache(maxsize=1)
def _providers() -> "Mapping[str, data.Provider]":
    from genai_prices.data import providers  # noqa: PLC0415 - slow, and many commands never price

    return {provider.id: provider for provider in providers}


def listed_models() -> Iterator[Listed]:
    """Yield every model of every provider, in the list's order."""
    for provider in _providers().values():
        for model in provider.models:
            yield _listed(provider, model)


def other_names(listed: Listed) -> frozenset[str]:
    """Return the names that the list spells out for a model; those that a rule matches are not told."""
    from bursar.pricing.matching import exact_names  # noqa: PLC0415 - loads the price data's types

    entry = _entries().get((listed.provider, listed.model))
    return frozenset() if entry is None else (exact_names(entry.match) or frozenset())


def find(provider: str, name: str) -> Listed | None:
    """Return the model that `provider` sells under `name` (both lower case), None if unlisted.

    A provider that resells others' models at their price (Azure and OpenAI's, Google and
    Anthropic's) is asked first, then those others.
    """
    seller = _providers().get(provider)
    if seller is None:
        return None
    found = _match(seller, name)
    for other in seller.fallback_model_providers or ():
        if found is None:
            found = _match(_providers()[other], name)
    return found


def list_timeline(listed: Listed) -> Timeline:
    """Return the standard prices of a model through time, as the list has them.

    `listed` must come from `find` or `listed_models`.
    """
    conditions = _conditions(_entries()[listed.provider, listed.model])
    starts = sorted({BEGINNING, *(start for start in map(_start_of, conditions) if start is not None)})
    return tuple(_period(listed, conditions, start) for start in starts)


def tier_variants(listed: Listed, tier: ServiceTier) -> tuple[tuple[int, Mapping[str, Tiered]], ...]:
    """Return (valid from, the units that differ from standard) as listed for a service tier.

    The list's order is kept: where two are valid, the first wins, unit by unit.
    """
    wanted = _VARIANT_OF_TIER.get(tier)
    entry = _entries().get((listed.provider, listed.model))
    return tuple(
        (_date_us(variant.constraint), _by_unit(variant.prices))
        for variant in (entry.price_variants if entry else None) or ()
        if variant.when == wanted
    )


@lru_cache(maxsize=1)
def _entries() -> "Mapping[tuple[str, str], data.ModelInfo]":
    return {(provider.id, model.id): model for provider in _providers().values() for model in provider.models}


class _Index(NamedTuple):
    """One provider's models for look-up: by spelled-out name, by pattern, by the list's own id."""

    ids: "Mapping[str, data.ModelInfo]"
    exact: "Mapping[str, tuple[int, data.ModelInfo]]"
    loose: "tuple[tuple[int, data.ModelInfo], ...]"


@lru_cache(maxsize=64)
def _index(provider: str) -> _Index:
    from bursar.pricing.matching import exact_names  # noqa: PLC0415 - loads the price data's types

    exact: dict[str, tuple[int, data.ModelInfo]] = {}
    loose: list[tuple[int, data.ModelInfo]] = []
    for position, model in enumerate(_providers()[provider].models):
        names = exact_names(model.match)
        if names is None:
            loose.append((position, model))
        for name in names or ():
            exact.setdefault(name, (position, model))
    ids = {model.id.lower(): model for model in _providers()[provider].models}
    return _Index(ids, exact, tuple(loose))


def _match(provider: "data.Provider", name: str) -> Listed | None:
    """Return the first model in the list's order that `name` means, with its date either way."""
    from bursar.pricing.matching import means  # noqa: PLC0415 - loads the price data's types

    index = _index(provider.id)
    for candidate in dict.fromkeys((name, _dashed_date(name))):
        first = index.exact.get(candidate)
        for position, model in index.loose:
            if first is not None and position > first[0]:
                break
            if means(model.match, candidate):
                return _listed(provider, model)
        if first is not None:
            return _listed(provider, first[1])
    by_id = index.ids.get(name)
    return _listed(provider, by_id) if by_id else None


def _listed(provider: "data.Provider", model: "data.ModelInfo") -> Listed:
    return Listed(provider.id, model.id, model.name, model.context_window)


def _dashed_date(name: str) -> str:
    """Return `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`; other names unchanged."""
    head, dash, digits = name.rpartition("-")
    if dash and len(digits) == _COMPACT_DATE_DIGITS and digits.isdigit():
        return f"{head}-{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return name


def _conditions(entry: "data.ModelInfo") -> "list[data.ConditionalPrice]":
    from genai_prices.types import ConditionalPrice  # noqa: PLC0415 - see _providers

    prices = entry.prices
    return prices if isinstance(prices, list) else [ConditionalPrice(prices=prices)]


def _start_of(condition: "data.ConditionalPrice") -> int | None:
    start = getattr(condition.constraint, "start_date", None)
    return None if start is None else _midnight_us(start)


def _period(listed: Listed, conditions: "list[data.ConditionalPrice]", at: int) -> Period:
    """Return what holds from `at`: the last dated price that has begun, and later windows.

    The list's rule is "the last condition that is met wins, else the first one".
    """
    period = Period(at, _prices(listed, conditions[0]))
    for condition in conditions:
        start = _start_of(condition)
        if hasattr(condition.constraint, "start_time"):
            period = period._replace(windows=(*period.windows, _window(listed, condition)))
        elif start is None or start <= at:
            period = Period(at, _prices(listed, condition))
    return period


def _window(listed: Listed, condition: "data.ConditionalPrice") -> Window:
    from genai_prices.types import TimeOfDateConstraint  # noqa: PLC0415 - see _providers

    constraint = condition.constraint
    assert isinstance(constraint, TimeOfDateConstraint)  # noqa: S101 - the caller looked
    return Window(
        _time_of_day_us(constraint.start_time),
        _time_of_day_us(constraint.end_time),
        _prices(listed, condition),
    )


def _prices(listed: Listed, condition: "data.ConditionalPrice") -> Prices | None:
    """Return the prices of one condition, None if they cannot price an event in full."""
    given = {key: value for key, value in vars(condition.prices).items() if value is not None}
    if any(given.get(key) for key in _NOT_COUNTED):
        return None
    try:
        by_unit = _by_unit(condition.prices)
    except InexactPriceError:
        return None
    if not by_unit:
        if not _is_free(listed):
            return None
        by_unit = {units.INPUT: ((0, 0),), units.OUTPUT: ((0, 0),)}
    start = getattr(condition.constraint, "start_date", None)
    since = f" since {start.isoformat()}" if start else ""
    return Prices(by_unit, f"public list price of {listed.provider}/{listed.model}{since}")


def _is_free(listed: Listed) -> bool:
    """Tell whether an entry without any price means "free of charge", not "not known".

    The list writes both the same way. Free are OpenRouter's `:free` models, Gemma on the
    Gemini API (its pricing page says so) and what GitHub Copilot includes.
    """
    return (
        listed.model.endswith(":free")
        or listed.provider == "github-copilot"
        or (listed.provider == "google" and listed.model.startswith("gemma-"))
    )


def _by_unit(prices: "data.ModelPrice") -> dict[str, Tiered]:
    return {
        unit: _tiered(value, per)
        for key, (unit, per) in _UNIT_OF_KEY.items()
        if (value := vars(prices).get(key)) is not None
    }


def _tiered(value: "Decimal | data.TieredPrices", per: int) -> Tiered:
    if isinstance(value, Decimal):
        return ((0, rate_e6(value, per)),)
    return (
        (0, rate_e6(value.base, per)),
        *((tier.start, rate_e6(tier.price, per)) for tier in value.tiers),
    )


def rate_e6(price_usd: Decimal, per: int) -> int:
    """Return the rate of one unit in nano-USD × 10⁶ when `per` units cost `price_usd`.

    A rate has a resolution of 10⁻¹⁵ USD a unit: nine decimals of a price per million. Some
    list entries carry the tail of a float (0.18000000000000002); it is rounded half-even.

    Raises:
        InexactPriceError: Rounding would change the price by more than a millionth.
    """
    rate = price_usd * (_NUSD_PER_USD * units.RATE_SCALE) / per
    whole = rate.to_integral_value(ROUND_HALF_EVEN)
    if abs(rate - whole) * _ROUNDING_SHARE > rate:
        raise InexactPriceError(f"{price_usd} USD for {per} units is not a whole number of 10^-15 USD a unit")
    return int(whole)


def _date_us(constraint: object) -> int:
    start = getattr(constraint, "start_date", None)
    return BEGINNING if start is None else _midnight_us(start)


def _midnight_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def _time_of_day_us(moment: time) -> int:
    zone = moment.tzinfo or UTC
    utc = datetime(2000, 1, 2, moment.hour, moment.minute, moment.second, tzinfo=zone).astimezone(UTC)
    return ((utc.hour * 60 + utc.minute) * 60 + utc.second) * 1_000_000
