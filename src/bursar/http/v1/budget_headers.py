"""Headers by which an agent reads how much money is left, in the manner of the RateLimit fields.

    Standing of the tightest budget  →  money_headers  →  answers of ingest, holds and leases

`RateLimit-Policy` and `RateLimit` count in the budget's smallest unit, since they take whole
numbers only; the `Bursar-Budget-…` ones say the same in decimal text. One budget can be told: the one
nearest to its end. Source: IETF draft "RateLimit header fields for HTTP".
"""

from bursar.budgets.amounts import Metric
from bursar.budgets.window import NEVER
from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import MICROS_PER_SECOND, text_from_micros

Headers = tuple[tuple[bytes, bytes], ...]

_UNITS = {
    Metric.COST: "nano-usd",
    Metric.DURATION: "milliseconds",
    Metric.CALLS: "calls",
    Metric.LOOPS: "loops",
    Metric.DEPTH: "levels",
}


def money_headers(
    budget: bytes,
    metric: Metric,
    state: str,
    *,
    starts_at: int,
    ends_at: int,
    limit: int,
    remaining: int,
    now: int,
) -> Headers:
    """Return the headers of one budget's current window.

    Args:
        budget: Its id.
        metric: What it counts.
        state: `ok`, `warning` or `exceeded`.
        starts_at: Of the window, microseconds UTC.
        ends_at: The same; `window.NEVER` without an end.
        limit: In the budget's unit.
        remaining: Likewise.
        now: Microseconds UTC.
    """
    name = text_from_id("bud", budget)
    policy = f'"{name}";q={limit};qu="{_UNITS.get(metric, "tokens")}"'
    left = f'"{name}";r={remaining}'
    headers = [
        (b"bursar-budget-state", state.encode()),
        (b"bursar-budget-limit", _text(limit, metric)),
        (b"bursar-budget-remaining", _text(remaining, metric)),
    ]
    if ends_at != NEVER:
        policy += f";w={(ends_at - starts_at) // MICROS_PER_SECOND}"
        # Rounded up: whoever waits so long finds the next window.
        left += f";t={max(0, -(-(ends_at - now) // MICROS_PER_SECOND))}"
        headers.append((b"bursar-budget-reset", text_from_micros(ends_at).encode()))
    return (*headers, (b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode()))


def _text(amount: int, metric: Metric) -> bytes:
    return (text_from_nusd(amount) if metric is Metric.COST else str(amount)).encode()
