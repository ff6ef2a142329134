"""The worst case of a call before it is made, in nano-USD and in every other metric.

    token counts + prices + what is learned  →  worst_of_usage | worst_of_amount  →  Worst  →  hold.Request

Output is priced as plain output and as reasoning, and the dearer counts; input counts as
uncached unless the caller splits it. A model without a price gets the caller's ceiling,
or None, which hard money budgets refuse. Not here: what was learned (`sketches`).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from bursar.budgets.amounts import Amounts
from bursar.budgets.estimate import OutputSketch, PriceOf, estimated
from bursar.core.usage import Price, RateCard, UsageEvent

CARDS_KEPT_MAX = 4_096
"""Rate cards of which it is remembered how they price reasoning."""


class Pricer(Protocol):
    """Prices of one organisation (`pricing.PriceBook`)."""

    def price(self, event: UsageEvent) -> Price:
        """Return what `event` costs."""
        ...


class Worst(NamedTuple):
    """What to set aside.

    Attributes:
        amounts: Its cost is None where neither a price nor a ceiling is known.
        max_output_tokens: What the caller has to pass on; None where it named an amount.
        sized: The worst case for fewer output tokens; None where it named an amount.
    """

    amounts: Amounts
    max_output_tokens: int | None = None
    sized: Callable[[int], Amounts] | None = None


def worst_of_amount(amount_nusd: int, *, deadline_ms: int) -> Worst:
    """Return the worst case of a call whose caller knows what it may cost at most."""
    return Worst(Amounts(amount_nusd, duration_ms=deadline_ms))


def worst_of_usage(
    pricer: Pricer,
    call: UsageEvent,
    *,
    max_output_tokens: int | None,
    ceiling_nusd: int | None,
    deadline_ms: int,
    sketch: OutputSketch | None,
) -> Worst:
    """Return the worst case of a call whose input is counted.

    Args:
        pricer: The organisation's prices.
        call: With its names, its time and its input by kind; its output counts are not read.
        max_output_tokens: As the caller sends it to the provider; None when it sends none.
        ceiling_nusd: What the call costs at most where no price is known.
        deadline_ms: When the caller will cancel.
        sketch: What calls like it have brought.
    """
    found = estimated(
        _price_of(pricer, call, ceiling_nusd),
        input_tokens=call.tokens_total - call.output_tokens - call.reasoning_tokens,
        max_output_tokens=max_output_tokens,
        deadline_ms=deadline_ms,
        sketch=sketch,
    )
    return Worst(found.amounts, found.max_output_tokens, found.sized)


def _price_of(pricer: Pricer, call: UsageEvent, ceiling_nusd: int | None) -> PriceOf:
    price = pricer.price

    def cost(_input_tokens: int, output_tokens: int) -> int | None:
        card, plain, _ = price(replace(call, output_tokens=output_tokens))
        if card is not None and not _is_reasoning_dearer(card):
            return ceiling_nusd if plain is None else plain
        reasoned = price(replace(call, output_tokens=0, reasoning_tokens=output_tokens)).computed_nusd
        known = [nusd for nusd in (plain, reasoned) if nusd is not None]
        return max(known, default=ceiling_nusd)

    return cost


def _is_reasoning_dearer(card: RateCard) -> bool:
    """Tell whether some line for reasoning is above some line for output; worked out once a card."""
    found = _dearer.get(card.digest)
    if found is None:
        plain, reasoned = (
            [line.nusd_per_unit_e6 for line in card.lines if line.unit == unit]
            for unit in ("output_tokens", "reasoning_tokens")
        )
        if len(_dearer) >= CARDS_KEPT_MAX:
            _dearer.clear()
        found = _dearer[card.digest] = not plain or max(reasoned, default=0) > min(plain)
    return found


_dearer: dict[bytes, bool] = {}
