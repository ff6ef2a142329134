"""Price an event: find its card, multiply counts by rates, decide which cost counts.

    UsageEvent  →  PriceBook.price  →  Price  →  ledger.posting

The first event of a (provider, model, tier) resolves its names and compiles its cards; each
later one costs a dictionary look-up and a sum of integer products. Pure: no clock, no
storage; the event's own time picks the card.

Not here: aliases, lists and rules (`aliases`, `tariff`), storing overrides (`ports`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from bursar.core.money import NUSD_MAX
from bursar.core.usage import Price, RateCard, ServiceTier, Subject, UsageEvent
from bursar.pricing.aliases import canonical, names_of, resolve
from bursar.pricing.basis import CostBasis, cost_nusd
from bursar.pricing.cards import CompiledCard, Rates, context_of
from bursar.pricing.course import Course, Identity, with_overrides
from bursar.pricing.explanation import Explanation, explanation
from bursar.pricing.listing import Listed, warm_up
from bursar.pricing.overrides import OverrideBook, PriceOverride
from bursar.pricing.tariff import tariff
from bursar.pricing.timeline import UNKNOWN, Timeline
from bursar.pricing.units import RATE_SCALE

__all__ = ["CostBasis", "PriceBook", "PriceOverride", "canonical", "warm_up"]

_STANDARD: Final = ServiceTier.STANDARD
_COURSES_MAX: Final = 4_096
"""Compiled models kept per tier and organisation, about 2 KiB each. When full, all are dropped:
they come back at their next event, and no list of use has to be kept on the hot path."""

_NAMES_MAX: Final = 16_384
_new_tuple: Final = tuple.__new__
"""Builds a `Price` in half the time of its constructor (0.07 against 0.15 µs)."""

_CEILING: Final = RATE_SCALE - 1
_TOO_MUCH: Final = NUSD_MAX * RATE_SCALE
"""A sum above it used a unit without a price (`cards.NO_RATE`) or fits no ledger column."""


class PriceBook:
    """All prices of one organisation: the public list and what the organisation changed.

    Immutable once built; a change of overrides makes a new book. Safe to share between
    threads: the caches are dictionaries whose entries are only added or all dropped, and one tuple.
    """

    def __init__(self, overrides: Sequence[PriceOverride] = (), *, basis: CostBasis = CostBasis.AUTO) -> None:
        """Take the overrides in any order; `basis` decides between reported and computed."""
        self._overrides = OverrideBook(overrides)
        self._basis = basis
        self._reported_wins = basis is CostBasis.AUTO
        self._report_needed = basis is CostBasis.REPORTED
        self._by_tier: tuple[dict[tuple[str, str], Course], ...] = tuple({} for _ in ServiceTier)
        # Neighbours mostly share their subject. One tuple, so that threads never mix two.
        self._last: tuple[Subject | None, ServiceTier, Course | None] = (None, _STANDARD, None)

    def price(self, event: UsageEvent) -> Price:
        """Return what `event` costs, by its own time; never raises for an unknown model.

        Computed cost is exact and rounded up once to the next nano-USD. It is None when the
        model or tier has no price, when a used unit has none, or when it is above 9.2 × 10⁹ USD.
        """
        subject = event.subject
        tier = event.service_tier
        last_subject, last_tier, course = self._last
        if course is None or last_subject is not subject or last_tier is not tier:
            known = self._by_tier[tier].get(subject[1:3])
            course = known or self._learn(subject.provider, subject.model, tier)
            self._last = (subject, tier, course)
        compiled = course.only
        if compiled is None:
            compiled = course.at(event.occurred_at)
            if compiled is None:
                return Price(None, None, cost_nusd(self._basis, event, None))
        total = _exact_cost_e6(compiled, event)
        computed = None if total > _TOO_MUCH else (total + _CEILING) // RATE_SCALE
        counts = computed
        reported = event.reported_nusd
        if reported and self._reported_wins:
            counts = reported
        elif reported is not None or self._report_needed:
            counts = cost_nusd(self._basis, event, computed)
        return _new_tuple(Price, (compiled.card, computed, counts))

    def explain(self, event: UsageEvent) -> Explanation:
        """Return how `price` comes to its figure: card, unit × rate lines, and the decision."""
        subject = event.subject
        card = self.card_at(subject.provider, subject.model, event.occurred_at, event.service_tier)
        model = canonical(subject.provider, subject.model)
        return explanation(event, model, card, self.price(event), self._basis)

    def card_at(self, provider: str, model: str, at: int, tier: ServiceTier = _STANDARD) -> RateCard | None:
        """Return the card for usage at `at` (microseconds UTC), None if no price is known."""
        course = self._by_tier[tier].get((provider, model)) or self._learn(provider, model, tier)
        compiled = course.at(at)
        return compiled.card if compiled else None

    def card_of(self, listed: Listed, at: int) -> RateCard | None:
        """Return the standard card of a price list's entry at `at`, None if it has no price."""
        identity = Identity(listed.provider, listed.model, _STANDARD)
        names = {listed.model.lower(), f"{listed.provider}/{listed.model.lower()}"}
        overrides = self._overrides.relevant(names, _STANDARD)
        timeline = with_overrides(identity, tariff(listed, listed.provider, _STANDARD), overrides)
        compiled = Course(identity, timeline).at(at)
        return compiled.card if compiled else None

    def _learn(self, provider: str, model: str, tier: ServiceTier) -> Course:
        courses = self._by_tier[tier]
        if len(courses) >= _COURSES_MAX:
            courses.clear()
        found = canonical(provider, model)
        identity = Identity(found.provider, found.model, tier)
        overrides = self._overrides.relevant(names_of(provider, model), tier)
        timeline = with_overrides(identity, _list_prices(provider, model, tier), overrides)
        course = courses[provider, model] = Course(identity, timeline)
        return course


def _exact_cost_e6(compiled: CompiledCard, event: UsageEvent) -> int:
    """Return the sum of count × rate in nano-USD × 10⁶, exact.

    Written out rather than looped, by the positions of `units.UNITS`: it runs for every
    event, and most events use only the first few units.
    """
    _, rates, tiers = compiled
    if tiers:
        rates = compiled.rates_for(context_of(event))
    total = event.input_tokens * rates[0] + event.output_tokens * rates[1] + rates[11]
    if count := event.reasoning_tokens:
        total += count * rates[2]
    if count := event.cache_read_tokens:
        total += count * rates[3]
    if count := event.cache_write_5m_tokens:
        total += count * rates[4]
    if count := event.cache_write_1h_tokens:
        total += count * rates[5]
    if (
        event.input_audio_tokens
        or event.output_audio_tokens
        or event.input_image_tokens
        or event.output_image_tokens
        or event.web_searches
    ):
        total += _rare_cost_e6(rates, event)
    return total


def _rare_cost_e6(rates: Rates, event: UsageEvent) -> int:
    return (
        event.input_audio_tokens * rates[6]
        + event.output_audio_tokens * rates[7]
        + event.input_image_tokens * rates[8]
        + event.output_image_tokens * rates[9]
        + event.web_searches * rates[10]
    )


@lru_cache(maxsize=_NAMES_MAX)
def _list_prices(provider: str, model: str, tier: ServiceTier) -> Timeline:
    """Return the public prices for names as sent; shared by the books of all organisations."""
    found = resolve(provider, model)
    if found is None:
        return UNKNOWN
    seller, listed = found
    return tariff(listed, seller, tier)
