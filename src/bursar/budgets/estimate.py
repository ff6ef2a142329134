"""How much output a call may bring: a learned quantile, never the model's maximum.

    settled calls  →  OutputSketch (one per agent and model)  →  estimated  →  hold.Request

A caller that sends no `max_output_tokens` would block a large part of a budget if each
hold covered the model's maximum. The sketch counts real outputs in buckets that grow by a
tenth, so a quantile is at most a tenth too high and never too low for what was counted.
It is bounded: at most `BUCKETS_MAX` buckets, and at `WEIGHT_MAX` outputs all counts are halved, so it
follows an agent that changes. Pure; the price is a function that is passed in.
"""

from collections.abc import Callable, Iterable, Mapping
from math import ceil, log
from typing import Final, NamedTuple

import msgspec

from bursar.budgets.amounts import Amounts, worst_case
from bursar.core.usage import TOKENS_MAX

GROWTH: Final = 1.1
BUCKETS_MAX: Final = 300
WEIGHT_MAX: Final = 4_096
QUANTILE_PPM: Final = 990_000
LEARNED_FROM: Final = 20
"""With fewer outputs a sketch is not asked."""
OUTPUT_DEFAULT: Final = 4_096
OUTPUT_CAP: Final = 32_768
_MARGIN_STEP_PPM = 50_000
_MARGIN_MAX_PPM = 1_000_000
_LOG_GROWTH = log(GROWTH)


def _bounds() -> tuple[int, ...]:
    """Return the upper bound of each bucket: whole tokens, so that no float decides later."""
    bounds = [0]
    while len(bounds) < BUCKETS_MAX and bounds[-1] < TOKENS_MAX:
        bounds.append(max(bounds[-1] + 1, ceil(GROWTH ** (len(bounds) - 1))))
    return tuple(bounds)


_BOUNDS: Final = _bounds()


class OutputSketch(msgspec.Struct):
    """How many outputs of which size, and the margin that overruns have taught.

    `counts` maps a bucket to its outputs. `margin_ppm` is added to estimates: it rises with
    every settlement above its hold and falls slowly with the others.
    """

    counts: dict[int, int] = msgspec.field(default_factory=dict)
    weight: int = 0
    margin_ppm: int = 0

    def add(self, output_tokens: int, *, has_overrun: bool = False) -> None:
        """Learn from one settled call."""
        bucket = bucket_of(output_tokens)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.weight += 1
        self.teach_margin(has_overrun, not has_overrun)
        if self.weight >= WEIGHT_MAX:
            self._halve()

    def teach_margin(self, overruns: int, others: int) -> None:
        """Narrow the margin by each call that stayed within its hold, then widen it by each overrun."""
        for _ in range(others if self.margin_ppm >> 8 else 0):
            self.margin_ppm -= self.margin_ppm >> 8
        if overruns:
            self.margin_ppm = min(_MARGIN_MAX_PPM, self.margin_ppm + overruns * _MARGIN_STEP_PPM)

    def quantile(self, ppm: int = QUANTILE_PPM) -> int | None:
        """Return an output that a share `ppm` of the calls did not pass, margin included.

        Never below the true quantile of what is counted, at most a tenth and one token
        above it before the margin. None before the first output.
        """
        if not self.weight:
            return None
        wanted = -(-self.weight * ppm // 1_000_000)
        seen = 0
        bound = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            bound = _BOUNDS[bucket]
            if seen >= wanted:
                break
        return bound + -(-bound * self.margin_ppm // 1_000_000)

    def _halve(self) -> None:
        """Forget half of everything; what was seen once stays, so the largest are not lost at once."""
        self.counts = {bucket: (count + 1) >> 1 for bucket, count in self.counts.items()}
        self.weight = sum(self.counts.values())


def merged(sketches: Iterable[OutputSketch]) -> OutputSketch:
    """Return what several processes or agents have learned together; in any order the same."""
    total = OutputSketch()
    for sketch in sketches:
        for bucket, count in sketch.counts.items():
            total.counts[bucket] = total.counts.get(bucket, 0) + count
        total.weight += sketch.weight
        total.margin_ppm = max(total.margin_ppm, sketch.margin_ppm)
    return total


def bucket_of(tokens: int) -> int:
    """Return the first bucket whose bound is not below `tokens`."""
    if tokens <= 0:
        return 0
    bucket = min(int(log(tokens) / _LOG_GROWTH) + 1, len(_BOUNDS) - 1)
    while bucket and _BOUNDS[bucket - 1] >= tokens:
        bucket -= 1
    while bucket < len(_BOUNDS) - 1 and _BOUNDS[bucket] < tokens:
        bucket += 1
    return bucket


class Estimate(NamedTuple):
    """A call's worst case, the output it stands for, and how to price less.

    `is_learned` is False where the caller named the output itself or nothing was known.
    """

    amounts: Amounts
    max_output_tokens: int
    sized: Callable[[int], Amounts]
    is_learned: bool


PriceOf = Callable[[int, int], int | None]
"""Nano-USD of a call with so many input and output tokens, rounded up; None without a price.

It must not fall as tokens grow, and holds for the model's surcharges.
"""


def estimated(
    price: PriceOf,
    *,
    input_tokens: int,
    max_output_tokens: int | None,
    deadline_ms: int,
    sketch: OutputSketch | None = None,
    cap: int = OUTPUT_CAP,
) -> Estimate:
    """Return the worst case to hold for a call.

    Args:
        price: From `pricing`; a ceiling price where no other is known.
        input_tokens: Counted or estimated, cached ones included.
        max_output_tokens: As the caller sends it to the provider; None when it sends none.
        deadline_ms: When the caller will cancel, for budgets of duration.
        sketch: Of the agent and the model; or of the model, while the agent is new.
        cap: The most that is held for output nobody bounded.
    """
    learned = None
    if sketch is not None and sketch.weight >= LEARNED_FROM:
        learned = sketch.quantile()
    output = max_output_tokens
    if output is None:
        output = max(1, min(cap, OUTPUT_DEFAULT if learned is None else learned))

    def sized(tokens: int) -> Amounts:
        cost = price(input_tokens, tokens)
        return worst_case(cost, input_tokens=input_tokens, max_output_tokens=tokens, deadline_ms=deadline_ms)

    is_learned = max_output_tokens is None and learned is not None
    return Estimate(sized(output), output, sized, is_learned)


def sketch_from(counts: Mapping[int, int], margin_ppm: int) -> OutputSketch:
    """Return a sketch from its stored parts."""
    return OutputSketch(dict(counts), sum(counts.values()), margin_ppm)
