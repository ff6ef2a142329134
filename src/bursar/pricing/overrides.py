"""Prices an organisation sets itself: negotiated, corrected, or for models nobody lists.

    PriceOverride (stored)  →  OverrideBook.relevant  →  engine

Precedence, the first difference decides:
    1. A pattern without wildcards beats one with; `provider/model` beats `model`.
    2. Of two patterns with wildcards, the one with more literal characters.
    3. One for the event's service tier beats one for every tier.
    4. The later `valid_from`; then the one later in the given order.
One override wins; they are never multiplied. Pure. Not here: storing them (`ports`).
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from bursar.core.errors import InvalidInput
from bursar.core.usage import RateLine, ServiceTier
from bursar.pricing.timeline import BEGINNING, Prices, Tiered
from bursar.pricing.units import UNITS

HUNDRED_PERCENT_BP: Final = 10_000
RATE_E6_MAX: Final = 10**15
"""One US dollar for one unit: a million dollars per million tokens."""

_PERCENT_BP_MAX: Final = 1_000_000
_PATTERN_LENGTH_MAX: Final = 256
_WILDCARDS: Final = "*?["


class OverrideKind(Enum):
    """What an override says: whole prices, or a change of the list price."""

    ABSOLUTE = "absolute"
    PERCENT = "percent"


class PriceOverride(msgspec.Struct, frozen=True, kw_only=True):
    """One price rule of an organisation, valid for usage that occurred in its time.

    Attributes:
        pattern: A model (`gpt-4o`) or `provider/model` (`openai/gpt-4o`), as sent or
            canonical, without case; `*`, `?` and `[…]` are wildcards.
        kind: `ABSOLUTE` replaces the price by `lines`; `PERCENT` changes each list price by
            `percent_bp` and leaves a model without a list price unpriced.
        valid_from: Microseconds UTC, included. The default is "always".
        valid_to: Microseconds UTC, excluded; None while it is open.
        lines: For `ABSOLUTE`. Units left out follow the rules of `derived`.
        percent_bp: For `PERCENT`, in hundredths of a percent: -1500 is 15 % off.
        service_tier: The one tier it is for; None for every tier.
        note: Why, in the organisation's own words.

    Raises:
        InvalidInput: A field is outside what its description allows.
    """

    pattern: str
    kind: OverrideKind
    valid_from: int = BEGINNING
    valid_to: int | None = None
    lines: tuple[RateLine, ...] = ()
    percent_bp: int = 0
    service_tier: ServiceTier | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.pattern.strip()) <= _PATTERN_LENGTH_MAX:
            raise InvalidInput(f"pattern must have 1 to {_PATTERN_LENGTH_MAX} characters")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise InvalidInput("valid_to must be after valid_from")
        if self.kind is OverrideKind.ABSOLUTE:
            _check_lines(self.lines)
        elif self.lines or not -HUNDRED_PERCENT_BP <= self.percent_bp <= _PERCENT_BP_MAX:
            raise InvalidInput("a percent override has no lines and lies between -100 % and +10000 %")

    def holds(self, at: int) -> bool:
        """Tell whether `at` falls into its time."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)

    def applied(self, listed: Prices | None) -> Prices | None:
        """Return the prices that apply in place of the listed ones, None if unknown."""
        if self.kind is OverrideKind.ABSOLUTE:
            return Prices(_by_unit(self.lines), f"the organisation's own price for {self.pattern!r}")
        if listed is None:
            return None
        factor = HUNDRED_PERCENT_BP + self.percent_bp
        by_unit = {unit: _scaled(tiers, factor) for unit, tiers in listed.by_unit.items()}
        percent = f"{Decimal(self.percent_bp) / 100:+} %"
        return Prices(by_unit, f"{percent} for {self.pattern!r} on: {listed.origin}")


class OverrideBook:
    """All overrides of one organisation, found by the names of a model."""

    def __init__(self, overrides: Sequence[PriceOverride]) -> None:
        self._exact: dict[str, list[tuple[int, PriceOverride]]] = {}
        self._globs: list[tuple[int, PriceOverride]] = []
        for position, override in enumerate(overrides):
            pattern = override.pattern.strip().lower()
            if any(mark in pattern for mark in _WILDCARDS):
                self._globs.append((position, override))
            else:
                self._exact.setdefault(pattern, []).append((position, override))

    def relevant(self, names: Iterable[str], tier: ServiceTier) -> list[PriceOverride]:
        """Return the overrides for a model and tier, the strongest first, of all times.

        `names` are all lower-case names of the model, with and without a provider.
        """
        known = tuple(names)
        found = [hit for name in known for hit in self._exact.get(name, ())]
        found += [(at, override) for at, override in self._globs if _matches(override, known)]
        fitting = {at: override for at, override in found if override.service_tier in (None, tier)}
        strongest_first = sorted(fitting.items(), key=lambda item: _strength(*item), reverse=True)
        return [override for _, override in strongest_first]


def _matches(override: PriceOverride, names: tuple[str, ...]) -> bool:
    pattern = override.pattern.strip().lower()
    return any(fnmatchcase(name, pattern) for name in names)


def _strength(position: int, override: PriceOverride) -> tuple[bool, bool, int, bool, int, int]:
    pattern = override.pattern.strip()
    literal = sum(character not in "*?" for character in pattern)
    exact = not any(mark in pattern for mark in _WILDCARDS)
    return (
        exact,
        exact and "/" in pattern,
        literal,
        override.service_tier is not None,
        override.valid_from,
        position,
    )


def _check_lines(lines: tuple[RateLine, ...]) -> None:
    if not lines:
        raise InvalidInput("an absolute override needs at least one line")
    if len({(line.unit, line.from_context_tokens) for line in lines}) != len(lines):
        raise InvalidInput("two lines have the same unit and context")
    based = {line.unit for line in lines if line.from_context_tokens == 0}
    for line in lines:
        if line.unit not in UNITS:
            raise InvalidInput(f"unit must be one of {', '.join(UNITS)}")
        if not 0 <= line.nusd_per_unit_e6 <= RATE_E6_MAX or line.from_context_tokens < 0:
            raise InvalidInput(
                f"{line.unit}: a rate must be between 0 and 1 USD a unit, a context not negative"
            )
        if line.unit not in based:
            raise InvalidInput(f"{line.unit} needs a price that holds from context 0")


def _by_unit(lines: tuple[RateLine, ...]) -> Mapping[str, Tiered]:
    by_unit: dict[str, Tiered] = {}
    for line in sorted(lines, key=lambda line: line.from_context_tokens):
        step = (line.from_context_tokens, line.nusd_per_unit_e6)
        by_unit[line.unit] = (*by_unit.get(line.unit, ()), step)
    return by_unit


def _scaled(tiers: Tiered, factor_bp: int) -> Tiered:
    """Return rates × factor, rounded up to the next 10⁻¹⁵ USD a unit."""
    return tuple((start, -(-rate * factor_bp // HUNDRED_PERCENT_BP)) for start, rate in tiers)
