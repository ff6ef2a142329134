"""Leases as the native routes show them.

    LeaseSeen + budgets  →  lease_body, report_body

What a client may spend stands in `rest`, by budget; `amount_usd` is the least of the money among
it. Amounts are decimal text in the budget's unit. Not here: refusals (`hold_answers`).
"""

from collections.abc import Mapping
from typing import Final

from bursar.budgets.amounts import COST, Metric
from bursar.budgets.budget import Terms
from bursar.budgets.hold import Hold
from bursar.budgets.refusal import Stopped
from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import MICROS_PER_SECOND, text_from_micros
from bursar.enforcement.leasing import LeaseSeen
from bursar.http.v1.hold_answers import BUDGET_ID, hold_body

HEARTBEAT_S: Final = 1
"""How often a client reports while it is active: a kill reaches it within that and a round trip."""

_METRICS = {metric.column: metric for metric in Metric}


def lease_body(
    seen: LeaseSeen, budgets: Mapping[bytes, Terms], *, key_text: str | None, max_output_tokens: int | None
) -> dict[str, object]:
    """Return a lease as its acquisition answers it.

    Args:
        seen: At the decision.
        budgets: The rules of its windows' budgets.
        key_text: The idempotency key as sent.
        max_output_tokens: What one worst case pays for; None where the caller named an amount.
    """
    body = hold_body(seen.hold, seen.windows, budgets, key_text=key_text)
    body["max_output_tokens"] = max_output_tokens
    return {**body, **_state_of(seen, budgets)}


def report_body(seen: LeaseSeen, budgets: Mapping[bytes, Terms], acknowledged: int) -> dict[str, object]:
    """Return the answer to a report; `acknowledged` is the highest place of the journal in it."""
    return {
        "id": text_from_id("lse", seen.hold.id),
        "acknowledged": acknowledged,
        "renewed": seen.is_renewed,
        "recall": seen.is_recalled,
        **_state_of(seen, budgets),
    }


def _state_of(seen: LeaseSeen, budgets: Mapping[bytes, Terms]) -> dict[str, object]:
    hold = seen.hold
    money = [leg.held for leg in hold.legs if leg.column == COST]
    return {
        "state": hold.state,
        "rest": _rest(hold, budgets),
        "amount_usd": text_from_nusd(min(money)) if money else None,
        "ttl_s": _seconds(seen.left),
        "heartbeat_s": HEARTBEAT_S,
        "epoch": seen.epoch,
        "expires_at": text_from_micros(hold.expires_at),
        "stopped": None if seen.stopped is None else _stopped(seen.stopped),
    }


def _rest(hold: Hold, budgets: Mapping[bytes, Terms]) -> list[dict[str, object]]:
    """Return what each budget still holds for the lease; the lesser of two windows of one budget."""
    least: dict[bytes, tuple[int, int]] = {}
    for leg in hold.legs:
        before = least.get(leg.window.budget, (leg.held, leg.column))[0]
        least[leg.window.budget] = (min(before, leg.held), leg.column)
    return [
        {
            "budget_id": text_from_id(BUDGET_ID, budget_id),
            "budget": budgets[budget_id].budget.name if budget_id in budgets else "",
            "metric": _METRICS[column],
            "amount": text_from_nusd(held) if column == COST else str(held),
        }
        for budget_id, (held, column) in least.items()
    ]


def _stopped(stopped: Stopped) -> dict[str, object]:
    at = stopped.resume_at
    return {
        "state": stopped.state,
        "owner": stopped.owner,
        "reason": stopped.reason or None,
        "actor": stopped.actor or None,
        "resume_at": None if at is None else text_from_micros(at),
        "budget_id": None if stopped.window is None else text_from_id(BUDGET_ID, stopped.window.budget),
    }


def _seconds(micros: int) -> int | float:
    """Return seconds, rounded down to a millisecond."""
    whole, rest = divmod(micros, MICROS_PER_SECOND)
    return whole + rest // 1_000 / 1_000 if rest else whole
