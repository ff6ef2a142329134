"""Holds as the native routes show them, and refusals as problem documents that explain themselves.

    Hold + windows + budgets  →  hold_body, money_headers_of
    Refused | Stopped         →  exceeded_problem (402), stopped_problem (403)

Amounts are decimal text in the budget's unit. Not here: who holds a window's room
(`enforcement.hold_reading`), the routes (`holds`, `holds_read`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Final

from bursar.budgets.budget import Budget, Terms
from bursar.budgets.hold import Hold
from bursar.budgets.refusal import AgentStopped, Reason, Refused, Stopped
from bursar.budgets.seen import WindowSeen
from bursar.budgets.standing import BudgetState
from bursar.budgets.window import NEVER, reaches
from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import text_from_micros
from bursar.enforcement.hold_reading import Holders
from bursar.http.v1.budget_answers import KeyTexts, amount_text, moment, scope_body, unit_of
from bursar.http.v1.budget_headers import Headers, money_headers
from bursar.web.problems import problem

ID: Final = "hold"
LEASE_ID: Final = "lse"
BUDGET_ID: Final = "bud"
_WARNING_PPM = 800_000
_HOLDERS_TOLD = 3

TEXTS_KEPT_MAX: Final = 4_096
"""Texts of amounts and of times that are kept, about 100 bytes each."""

TermsById = Mapping[bytes, Terms]

_SENTENCES = {
    Reason.UNKNOWN_PRICE: "the model has no known price, so {budget} cannot tell whether the call fits; "
    "set a price for it (POST /v1/prices), or send ceiling_usd",
    Reason.UNKNOWN_USAGE: "{budget} counts tokens, and an amount of money tells nothing of them; "
    "ask with usage in place of amount_usd",
    Reason.UNPRICED_SPEND: "{budget} holds calls without a known price in this window; set prices for them "
    "(POST /v1/prices), or let it pass them (unpriced: allow)",
    Reason.SINGLE_HOLDS_ONLY: "{budget} has too little room left for leases; ask for a hold before each call",
}


def hold_body(
    hold: Hold, windows: Sequence[WindowSeen], budgets: TermsById, *, key_text: str | None = None
) -> dict[str, object]:
    """Return a hold with its windows.

    Args:
        hold: As of the decision, or as it is now.
        windows: Likewise.
        budgets: The rules of the windows' budgets.
        key_text: The idempotency key, where the caller has just sent it: only its hash is kept.
    """
    call = hold.call
    body: dict[str, object] = {
        "id": text_from_id(ID if hold.lease is None else LEASE_ID, hold.id),
        "agent": call.agent,
        "project": call.project or None,
        "user": call.user or None,
        "provider": call.provider or None,
        "model": call.model,
        "run": call.run or None,
        "kind": hold.kind,
        "amount_usd": _money(hold.amounts.cost_nusd),
        "state": hold.state,
        "max_output_tokens": hold.max_output_tokens,
        "created_at": _time(hold.created_at),
        "deadline_at": _time(hold.deadline_at),
        "expires_at": _time(hold.expires_at),
        "ended_at": None if hold.ended_at is None else _time(hold.ended_at),
        "settled_usd": None if hold.settled is None else _money(hold.settled.cost_nusd),
        "windows": [_window_body(seen, budgets.get(seen.window.budget)) for seen in windows],
        "budget_state": _worst_state(windows, budgets),
    }
    if key_text is not None:
        body["idempotency_key"] = key_text
    return body


def with_overruns(
    body: dict[str, object], hold: Hold, windows: Sequence[WindowSeen], budgets: TermsById
) -> None:
    """Add to each window of a settled hold's body by how much the call passed what was held for it.

    Args:
        body: From `hold_body`, of the same windows.
        hold: Settled.
        windows: Its windows.
        budgets: The rules of their budgets.
    """
    settled, shown = hold.settled, body["windows"]
    if settled is None or not isinstance(shown, list):
        return
    excesses = {leg.window: leg.excess_of(settled) for leg in hold.legs}
    for window, seen in zip(shown, windows, strict=True):
        terms, excess = budgets.get(seen.window.budget), excesses.get(seen.window, 0)
        window["overrun"] = _usd(excess) if terms is not None and terms.is_money else str(excess)


def money_headers_of(windows: Sequence[WindowSeen], budgets: TermsById, now: int) -> Headers:
    """Return the headers of the budget that is nearest to its end, none without a budget."""
    seen = tightest_of(windows)
    terms = None if seen is None else budgets.get(seen.window.budget)
    if seen is None or terms is None:
        return ()
    return money_headers(
        terms.id,
        terms.budget.metric,
        state_of_seen(seen, terms),
        starts_at=seen.window.starts_at,
        ends_at=seen.ends_at,
        limit=seen.limit,
        remaining=seen.remaining,
        now=now,
    )


def refusal_headers(refused: Refused, budget: Budget, now: int) -> Headers:
    """Return the headers of a budget that refused."""
    return money_headers(
        budget.id,
        budget.metric,
        BudgetState.EXCEEDED,
        starts_at=refused.window.starts_at,
        ends_at=NEVER if refused.resets_at is None else refused.resets_at,
        limit=refused.limit,
        remaining=max(0, refused.limit - refused.settled - refused.held),
        now=now,
    )


def tightest_of(windows: Sequence[WindowSeen]) -> WindowSeen | None:
    """Return the window of which the largest share is used."""
    tightest = None
    for seen in windows:
        if tightest is None or (seen.settled + seen.held) * tightest.limit > (
            tightest.settled + tightest.held
        ) * (seen.limit):
            tightest = seen
    return tightest


def state_of_seen(seen: WindowSeen, terms: Terms | None) -> BudgetState:
    """Return what a window says of its budget."""
    used = seen.settled + seen.held
    if used >= seen.limit:
        return BudgetState.EXCEEDED
    warning_ppm = terms.first_ppm if terms is not None and terms.first_ppm else _WARNING_PPM
    return BudgetState.WARNING if reaches(used, seen.limit, warning_ppm) else BudgetState.OK


def exceeded_problem(
    refused: Refused, budget: Budget, holders: Holders, *, keys: KeyTexts, now: int
) -> dict[str, object]:
    """Return the 402 body: which budget, its numbers at the decision, who holds its room, until when.

    Args:
        refused: The decision.
        budget: Whose window refused.
        holders: Of that window.
        keys: Ids of API keys for the scope.
        now: Microseconds UTC, at which `explain` shows the same.
    """
    window = refused.window
    budget_id = text_from_id(BUDGET_ID, budget.id)
    resets_at = None if refused.resets_at is None else text_from_micros(refused.resets_at)
    remaining = max(0, refused.limit - refused.settled - refused.held)
    detail = _no_room(refused, budget, holders, resets_at)
    extra: dict[str, object] = {
        "reason": refused.reason,
        "budget_id": budget_id,
        "budget": budget.name,
        "scope": scope_body(budget.scope, keys),
        "metric": budget.metric,
        "unit": unit_of(budget),
        "limit": amount_text(budget, refused.limit),
        "settled": amount_text(budget, refused.settled),
        "held": amount_text(budget, refused.held),
        "asked": None if refused.asked is None else amount_text(budget, refused.asked),
        "remaining": amount_text(budget, remaining),
        "resets_at": resets_at,
        "window": {
            "starts_at": moment(window.starts_at),
            "ends_at": resets_at,
            **({"run": window.member} if window.member else {}),
        },
        "held_by": [
            {"agent": one.agent or None, "amount": amount_text(budget, one.amount), "holds": one.holds}
            for one in holders.agents
        ],
        "held_by_is_partial": holders.is_partial,
        "held_by_is_later": _is_later(refused, holders),
        "budget_state": BudgetState.EXCEEDED,
        "explain": f"/v1/budgets/{budget_id}/explain?at={text_from_micros(now)}",
    }
    return problem(402, "budget_exceeded", detail, extra)


def stopped_problem(stopped: Stopped) -> dict[str, object]:
    """Return the 403 body: who stopped the agent, why, and when that ends by itself."""
    error = AgentStopped(stopped)
    ends = (
        f"; it ends by itself at {text_from_micros(stopped.resume_at)}"
        if stopped.resume_at is not None
        else "; it lasts until somebody resumes it"
    )
    why = f": {stopped.reason}" if stopped.reason else ""
    extra: dict[str, object] = {
        "owner": stopped.owner,
        "reason": stopped.reason or None,
        "actor": stopped.actor or None,
        "resume_at": None if stopped.resume_at is None else text_from_micros(stopped.resume_at),
    }
    if stopped.window is not None:
        extra["budget_id"] = text_from_id(BUDGET_ID, stopped.window.budget)
    detail = f"calls are {stopped.state.value} by {_OWNERS[stopped.owner.value]}{why}{ends}"
    return problem(403, error.code, detail, extra)


_OWNERS = {"manual": "a person", "budget": "a budget", "system": "the system", "guard": "a guard"}


def _no_room(refused: Refused, budget: Budget, holders: Holders, resets_at: str | None) -> str:
    """Return the sentence that people read."""
    name = f'the {budget.period.value} budget "{budget.name}"' if budget.name else "a budget"
    if refused.reason in _SENTENCES:
        return _SENTENCES[refused.reason].format(budget=name)
    amounts = (refused.limit, refused.asked or 0, refused.settled, refused.held)
    limit, asked, settled, held = (amount_text(budget, amount) for amount in amounts)
    is_later = _is_later(refused, holders)
    by = ", ".join(
        f"{'' if is_later else amount_text(budget, one.amount) + ' '}by {one.agent or 'others'}"
        for one in holders.agents[:_HOLDERS_TOLD]
    )
    ends = f"it resets at {resets_at}" if resets_at else "it does not reset by itself"
    return (
        f"{name} of {limit} {unit_of(budget)} has no room for {asked}: {settled} is spent and {held} is held"
        f"{f' ({by})' if by else ''}; {ends}"
    )


def _is_later(refused: Refused, holders: Holders) -> bool:
    """Tell whether holders were seen to have more than was held at the decision: they are read after it."""
    return sum(one.amount for one in holders.agents) > refused.held


def _window_body(seen: WindowSeen, terms: Terms | None) -> dict[str, object]:
    """Return one window of a hold; money as decimals, all else whole."""
    text: Callable[[int], str] = _usd if terms is not None and terms.is_money else str
    resets_at = seen.resets_at
    return {
        "budget_id": _budget_id(seen.window.budget),
        "budget": "" if terms is None else terms.budget.name,
        "metric": None if terms is None else terms.budget.metric,
        "amount": text(seen.amount),
        "limit": text(seen.limit),
        "settled": text(seen.settled),
        "held": text(seen.held),
        "remaining": text(seen.remaining),
        "resets_at": None if resets_at is None else _time(resets_at),
    }


def _worst_state(windows: Sequence[WindowSeen], budgets: TermsById) -> BudgetState:
    worst = BudgetState.OK
    for seen in windows:
        state = state_of_seen(seen, budgets.get(seen.window.budget))
        if state is BudgetState.EXCEEDED:
            return state
        if state is BudgetState.WARNING:
            worst = state
    return worst


def _money(amount_nusd: int | None) -> str | None:
    return None if amount_nusd is None else _usd(amount_nusd)


# A hold's times, its amount and its budgets' limits are written at each of its requests.
_usd = lru_cache(maxsize=TEXTS_KEPT_MAX)(text_from_nusd)
_time = lru_cache(maxsize=TEXTS_KEPT_MAX)(text_from_micros)
_budget_id = lru_cache(maxsize=TEXTS_KEPT_MAX)(partial(text_from_id, BUDGET_ID))
