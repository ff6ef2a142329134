"""How a price comes about, for people: the card, each unit × rate, and what decided.

    PriceBook.explain  →  Explanation  →  `/v1/prices/explain`, `bursar`

Works with the card's own lines, not with the compiled rows, so it checks the engine as
well. Not here: how it is shown.
"""

from typing import NamedTuple

from bursar.core.money import text_from_nusd
from bursar.core.usage import Price, RateCard, RateLine, UsageEvent
from bursar.pricing.aliases import CanonicalModel
from bursar.pricing.basis import CostBasis, reported_counts
from bursar.pricing.cards import applied_lines, context_of, count_of
from bursar.pricing.units import REQUEST, UNITS


class PricedLine(NamedTuple):
    """One factor of the sum: `units` at `line`'s rate.

    `amount_nusd_e6` is exact, in nano-USD × 10⁶, before the one rounding of the sum.
    """

    units: int
    line: RateLine
    amount_nusd_e6: int


class Explanation(NamedTuple):
    """Everything that led to one price.

    Attributes:
        model: What the sent names were taken for.
        card: None when no price is known.
        lines: Units that were used and have a price, in a card's order.
        unpriced_units: Units that were used and have no price; any of them leaves the
            computed cost unknown.
        context_tokens: What decided the context tier.
        price: The figures explained.
        reported_nusd: What the caller reported, None for nothing.
        sentences: The same, told in order.
    """

    model: CanonicalModel
    card: RateCard | None
    lines: tuple[PricedLine, ...]
    unpriced_units: tuple[str, ...]
    context_tokens: int
    price: Price
    reported_nusd: int | None
    sentences: tuple[str, ...]

    @property
    def card_id(self) -> str | None:
        """The card's identity in hexadecimal, as the ledger keeps it."""
        return self.card.digest.hex() if self.card else None


def explanation(
    event: UsageEvent, model: CanonicalModel, card: RateCard | None, price: Price, basis: CostBasis
) -> Explanation:
    """Return the explanation of `price`, which `card` gave to `event`."""
    context = context_of(event)
    applied = applied_lines(card, context) if card else {}
    used = {unit: count for unit in UNITS if (count := count_of(event, unit))}
    lines = tuple(
        PricedLine(count, applied[unit], count * applied[unit].nusd_per_unit_e6)
        for unit, count in used.items()
        if unit in applied
    )
    missing = tuple(unit for unit in used if unit not in applied and unit != REQUEST) if card else ()
    sentences = (
        _about_model(event, model),
        *_about_card(card, event),
        *_about_lines(lines, missing, context, price),
        _about_basis(event, basis, price),
    )
    return Explanation(model, card, lines, missing, context, price, event.reported_nusd, sentences)


def _about_model(event: UsageEvent, model: CanonicalModel) -> str:
    sent = f"{event.subject.provider or '(no provider)'} / {event.subject.model}"
    if not model.listed:
        return f"{sent} is on no price list."
    by = "" if model.maker == model.provider else f", at the price of {model.maker}"
    return f"{sent} is {model.model} of {model.provider}{by}."


def _about_card(card: RateCard | None, event: UsageEvent) -> list[str]:
    tier = event.service_tier.name.lower()
    if card is None:
        return [f"No {tier} price is known for the time of the call."]
    return [f"Rate card {card.digest.hex()}, {tier}: {card.origin}."]


def _about_lines(
    lines: tuple[PricedLine, ...], missing: tuple[str, ...], context: int, price: Price
) -> list[str]:
    said = [_line_sentence(line) for line in lines]
    if any(line.line.from_context_tokens for line in lines):
        said.append(f"The context of {context} tokens is in a higher tier, which holds for the whole call.")
    said += [f"The card has no price for {unit}, so the cost cannot be computed." for unit in missing]
    if price.computed_nusd is not None:
        said.append(f"Rounded up once, that is {text_from_nusd(price.computed_nusd)} USD.")
    elif price.card is not None and not missing:
        said.append("The sum is larger than any amount the ledger holds, so it counts as unknown.")
    return said


def _line_sentence(priced: PricedLine) -> str:
    rate = _usd_per_million(priced.line.nusd_per_unit_e6)
    return f"{priced.units} {priced.line.unit} at {rate} USD per million."


def _usd_per_million(rate_e6: int) -> str:
    """Return a rate (nano-USD × 10⁶ for one unit) as US dollars for a million units."""
    return text_from_nusd(rate_e6)  # nano-USD × 10⁶ a unit are nano-USD for 10⁶ units


def _about_basis(event: UsageEvent, basis: CostBasis, price: Price) -> str:
    counts = (
        "nothing: it is unpriced" if price.cost_nusd is None else f"{text_from_nusd(price.cost_nusd)} USD"
    )
    return f"Cost basis {basis.value}: {_reason(event, basis)}; what counts is {counts}."


def _reason(event: UsageEvent, basis: CostBasis) -> str:
    if basis is CostBasis.COMPUTED:
        return "only the computed cost counts"
    if basis is CostBasis.REPORTED:
        return "only the reported cost counts"
    if event.reported_nusd is None:
        return "the caller reported no cost"
    if reported_counts(event):
        return f"the caller's {text_from_nusd(event.reported_nusd)} USD are taken"
    return "the caller's zero beside tokens counts as not reported"
