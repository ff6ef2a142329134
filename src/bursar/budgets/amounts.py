"""What budgets count: eight metrics, and the amounts of one call in each of them.

An `Amounts` is a plain tuple whose positions are `Metric.column`s, so that a leg or a
posting finds its number by one index. Cost is nano-USD, duration milliseconds, the rest
whole units. An unknown cost is None, never 0. The columns from `DEPTH` on are not added up:
`guards` says what they count.
"""

from enum import StrEnum
from typing import NamedTuple

from bursar.core.errors import InvalidAmount
from bursar.core.money import NUSD_MAX
from bursar.core.usage import UsageEvent

AMOUNT_MAX = NUSD_MAX
"""The largest amount of any metric: what a 64-bit column holds."""

COST = 0
"""The column of `Amounts` that may be None."""

TOKENS = range(1, 4)
"""The columns of tokens, of which a worst case in money alone says nothing."""

DEPTH = 6
"""The first column that is not a plain number of the call: a gauge, then loops."""


class Metric(StrEnum):
    """What a budget counts. The values are stored and stand in the API."""

    COST = "cost"
    TOKENS_TOTAL = "tokens_total"
    TOKENS_INPUT = "tokens_input"
    TOKENS_OUTPUT = "tokens_output"
    CALLS = "calls"
    DURATION = "duration"
    DEPTH = "depth"
    LOOPS = "loops"

    @property
    def column(self) -> int:
        """Its position in `Amounts`."""
        return _COLUMNS[self]


_COLUMNS = {metric: column for column, metric in enumerate(Metric)}


class Amounts(NamedTuple):
    """One call's amounts by metric: a worst case when asked for, the facts when settled.

    Input counts every token sent, cached ones too; output counts reasoning.

    Attributes:
        depth: How deep the run is nested, as the caller says.
        fingerprint: 63 bits that equal calls share, 0 where the caller told none.
    """

    cost_nusd: int | None
    tokens_total: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    calls: int = 1
    duration_ms: int = 0
    depth: int = 0
    fingerprint: int = 0


NOTHING = Amounts(0, calls=0)


def worst_case(
    cost_nusd: int | None, *, input_tokens: int, max_output_tokens: int, deadline_ms: int
) -> Amounts:
    """Return what a call may use at most; `cost_nusd` is None where no price is known."""
    total = input_tokens + max_output_tokens
    return checked(Amounts(cost_nusd, total, input_tokens, max_output_tokens, 1, deadline_ms))


def amounts_of(event: UsageEvent, cost_nusd: int | None) -> Amounts:
    """Return what a captured call used; `cost_nusd` is the cost that counts, None unpriced."""
    output = (
        event.output_tokens + event.reasoning_tokens + event.output_audio_tokens + event.output_image_tokens
    )
    total = event.tokens_total
    return Amounts(cost_nusd, total, total - output, output, 1, event.duration_ms)


def checked(amounts: Amounts) -> Amounts:
    """Return `amounts` if each is an amount a column can hold.

    Raises:
        InvalidAmount: One is negative or above `AMOUNT_MAX`; `field` names it.
    """
    for field, amount in zip(Amounts._fields, amounts, strict=True):
        if amount is not None and not 0 <= amount <= AMOUNT_MAX:
            raise InvalidAmount(f"{field} must lie between 0 and {AMOUNT_MAX}", field=field)
    return amounts
