"""Read a model price file in LiteLLM's JSON format as overrides of one organisation.

    JSON text  →  overrides_from_litellm  →  PriceOverrides  →  ports.PriceStore.put_all

The format: an object of model name → `litellm_provider`, `mode` and prices in US dollars
per single token (`input_cost_per_token`, `…_above_200k_tokens`, `…_batches`). Numbers are
taken from the text as decimals and rounded half-even to 10⁻¹⁵ USD a token, which heals the
tails of floats. Nothing is dropped silently: each entry left out is reported with a reason.
"""

import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from bursar.core.errors import InvalidInput
from bursar.core.usage import RateLine, ServiceTier
from bursar.pricing import units
from bursar.pricing.aliases import pattern_of
from bursar.pricing.overrides import RATE_E6_MAX, OverrideKind, PriceOverride
from bursar.pricing.timeline import BEGINNING

ENTRIES_MAX: Final = 20_000
"""Entries in one file; the public file has about 3,000."""

_UNIT_OF_FIELD: Final = {
    "input_cost_per_token": units.INPUT,
    "output_cost_per_token": units.OUTPUT,
    "output_cost_per_reasoning_token": units.REASONING,
    "cache_read_input_token_cost": units.CACHE_READ,
    "cache_creation_input_token_cost": units.CACHE_WRITE_5M,
    "cache_creation_input_token_cost_above_1hr": units.CACHE_WRITE_1H,
    "input_cost_per_audio_token": units.INPUT_AUDIO,
    "output_cost_per_audio_token": units.OUTPUT_AUDIO,
    "input_cost_per_image_token": units.INPUT_IMAGE,
    "output_cost_per_image_token": units.OUTPUT_IMAGE,
    "input_cost_per_request": units.REQUEST,
}
_TIER_OF_SUFFIX: Final = {
    "": ServiceTier.STANDARD,
    "_batches": ServiceTier.BATCH,
    "_flex": ServiceTier.FLEX,
    "_priority": ServiceTier.PRIORITY,
}
_FIELD: Final = re.compile(
    rf"(?P<name>{'|'.join(sorted(_UNIT_OF_FIELD, key=len, reverse=True))})"
    r"(?:_above_(?P<thousands>\d{1,6})k_tokens)?(?P<tier>_batches|_flex|_priority)?"
)
_COST_FIELD: Final = re.compile(r"(?:input|output)_cost_per_\w+|ocr_cost_per_\w+|annotation_cost_per_\w+")
_SEARCHES: Final = "search_context_cost_per_query"
_E6_PER_USD: Final = Decimal(10**15)
_USD_MAX: Final = RATE_E6_MAX / _E6_PER_USD
_EXAMPLE_ENTRY: Final = "sample_spec"

Lines = dict[ServiceTier, dict[tuple[str, int], int]]
"""Tier → (unit, context threshold) → rate × 10⁶."""


class Skipped(NamedTuple):
    """An entry, or a field of an entry (`model: field`), that was not taken over, and why."""

    entry: str
    reason: str


class LiteLlmImport(NamedTuple):
    """What a file gave: overrides in the file's order, and what was left out."""

    overrides: tuple[PriceOverride, ...]
    skipped: tuple[Skipped, ...]


def overrides_from_litellm(
    text: str, *, valid_from: int = BEGINNING, valid_to: int | None = None
) -> LiteLlmImport:
    """Return the overrides that `text` says, all valid in the given time (microseconds UTC).

    Each model gives one override per service tier it has a price for. A tier's prices stand
    on the standard ones: what it does not name stays standard, except that reasoning
    follows the tier's output.

    Raises:
        InvalidInput: Not a JSON object of at most 20,000 entries.
    """
    overrides: list[PriceOverride] = []
    skipped: list[Skipped] = []
    for name, entry in _entries(text).items():
        try:
            lines = _lines(name, entry, skipped)
            pattern = pattern_of(str(entry.get("litellm_provider", "")), name)
            overrides += _overrides(pattern, lines, valid_from, valid_to)
        except InvalidInput as refused:
            skipped.append(Skipped(name, refused.detail))
    return LiteLlmImport(tuple(overrides), tuple(skipped))


def _entries(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidInput("must be JSON: an object of model names and their prices") from None
    if not isinstance(document, dict) or len(document) > ENTRIES_MAX:
        raise InvalidInput(f"must be an object of at most {ENTRIES_MAX} model names and their prices")
    return document


def _no_constant(name: str) -> Decimal:
    raise ValueError(name)


def _lines(name: str, entry: object, skipped: list[Skipped]) -> Lines:
    if name == _EXAMPLE_ENTRY or not isinstance(entry, dict):
        raise InvalidInput("not a model entry")
    lines: Lines = {}
    for field, value in entry.items():
        matched = _FIELD.fullmatch(field)
        if matched is not None and value is not None:
            tier = lines.setdefault(_TIER_OF_SUFFIX[matched["tier"] or ""], {})
            start = 1_000 * int(matched["thousands"] or 0)
            tier[_UNIT_OF_FIELD[matched["name"]], start] = _rate_e6(field, value)
        elif field == _SEARCHES:
            _add_searches(name, value, lines, skipped)
        elif _COST_FIELD.fullmatch(field) and value:
            skipped.append(Skipped(f"{name}: {field}", "billed by a unit that events do not count"))
    if not {key for tier in lines.values() for key in tier} & {(units.INPUT, 0), (units.OUTPUT, 0)}:
        raise InvalidInput("has no price per token")
    return lines


def _add_searches(name: str, value: object, lines: Lines, skipped: list[Skipped]) -> None:
    """Take the price of a web search if it is the same for every context size."""
    prices = set(value.values()) if isinstance(value, dict) else set()
    if len(prices) == 1:
        standard = lines.setdefault(ServiceTier.STANDARD, {})
        standard[units.WEB_SEARCH, 0] = _rate_e6(_SEARCHES, prices.pop())
    else:
        skipped.append(Skipped(f"{name}: {_SEARCHES}", "differs by context size, which events do not say"))


def _rate_e6(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise InvalidInput(f"{field} must be a number")
    try:
        price = Decimal(value)
    except (InvalidOperation, ValueError):
        raise InvalidInput(f"{field} must be a number") from None
    if not price.is_finite() or price < 0 or price > _USD_MAX:
        raise InvalidInput(f"{field} must be between 0 and 1 US dollar a unit")
    rate = int((price * _E6_PER_USD).to_integral_value(ROUND_HALF_EVEN))
    if rate == 0 and price > 0:
        raise InvalidInput(f"{field} is below 10^-15 US dollar a unit")
    return rate


def _overrides(pattern: str, lines: Lines, valid_from: int, valid_to: int | None) -> list[PriceOverride]:
    standard = lines.get(ServiceTier.STANDARD, {})
    return [
        PriceOverride(
            pattern=pattern,
            kind=OverrideKind.ABSOLUTE,
            valid_from=valid_from,
            valid_to=valid_to,
            lines=tuple(RateLine(unit, rate, start) for (unit, start), rate in merged.items()),
            service_tier=tier,
            note="imported from a LiteLLM price file",
        )
        for tier in sorted(lines)
        for merged in [_merged(standard, lines[tier])]
    ]


def _merged(
    standard: Mapping[tuple[str, int], int], tier: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Return the tier's lines over the standard ones, line by line.

    A context step that the tier does not name stays standard: an upper bound.
    """
    follows_output = (units.OUTPUT, 0) in tier
    kept = {key: rate for key, rate in standard.items() if not (follows_output and key[0] == units.REASONING)}
    return {**kept, **tier}
