"""Take a computed cost apart again: units of the event times the lines of its rate card.

Works from what the ledger keeps, the row and the card that priced it, so an old event is
explained by its old price. Which line applies is decided in `pricing.cards`.
"""

from typing import NamedTuple

from bursar.core.usage import NO_TEXT, RateCard, Source, Subject, UsageEvent
from bursar.ledger.rows import EntryRow, counts_of
from bursar.pricing.cards import applied_lines, context_of, count_of
from bursar.pricing.units import REQUEST, UNITS

_MILLION = 1_000_000
_DECIMALS = 15
"""Rates and amounts are nano-USD × 10⁶: 10⁻¹⁵ USD."""


class UnitCost(NamedTuple):
    """One factor of a price.

    `usd_per_million` and `amount_usd` are exact decimals as text, None where the card has
    no price for the unit (the whole cost is unknown then).
    """

    unit: str
    units: int
    usd_per_million: str | None
    from_context_tokens: int | None
    amount_usd: str | None


def unit_costs(row: EntryRow, card: RateCard) -> list[UnitCost]:
    """Return each unit that the event used, in a card's order.

    The amounts sum up to the computed cost before it was rounded up to a nano-dollar. A
    request is listed only where the card charges for it.
    """
    event = _counts(row)
    applied = applied_lines(card, context_of(event))
    costs = []
    for unit in UNITS:
        count, line = count_of(event, unit), applied.get(unit)
        if line is not None and count:
            rate = line.nusd_per_unit_e6
            costs.append(
                UnitCost(unit, count, _usd(rate * _MILLION), line.from_context_tokens, _usd(rate * count))
            )
        elif count and unit != REQUEST:
            costs.append(UnitCost(unit, count, None, None, None))
    return costs


def _usd(amount_e6: int) -> str:
    """Return 10⁻¹⁵ USD as plain text of US dollars, every digit kept."""
    whole, rest = divmod(amount_e6, 10**_DECIMALS)
    return f"{whole}.{rest:0{_DECIMALS}d}".rstrip("0").rstrip(".")


def _counts(row: EntryRow) -> UsageEvent:
    """Return an event with the row's counts and nothing else of it."""
    return UsageEvent(
        key=row.key,
        occurred_at=row.occurred_at,
        subject=Subject(NO_TEXT, NO_TEXT, NO_TEXT),
        source=Source(row.source),
        **counts_of(row),  # type: ignore[arg-type] # named as the counts of an event are
    )
