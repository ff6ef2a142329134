"""`GET /v1/budgets/{id}/explain`: which holds and which spend filled a budget at a moment.

What a refusal's `explain` link leads to. Not here: reading (`storage`), the budgets themselves.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bursar.budgets.budget import Budget
from bursar.budgets.window import NEVER, Window
from bursar.core.errors import Denied, InvalidInput, NotFound
from bursar.core.ids import id_from_text, text_from_id
from bursar.core.time import MICROS_MAX, MICROS_MIN, Clock, micros_from_text, text_from_micros
from bursar.enforcement.explanation import (
    Explainer,
    ExplainQuery,
    Explanation,
    Holding,
    Posted,
    SpendPlace,
)
from bursar.http.v1.budget_answers import ID, amount_text, window_body
from bursar.http.v1.report_query import TEXT_MAX, answer
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

PAGE_MAX = 200


class ExplainParams(BaseModel):
    """The parameters of the route."""

    model_config = ConfigDict(extra="forbid")

    at: str | None = Field(
        default=None, max_length=64, description="The moment, RFC 3339 with a zone; now by default."
    )
    run: str = Field(default="", max_length=TEXT_MAX, description="The run, for a budget per run.")
    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most entries of `spend`.")
    cursor: str | None = Field(
        default=None,
        max_length=64,
        description="`next_cursor` of the page before; it keeps that page's moment.",
    )


def budget_explain_router(guard: Guard, explainer: Explainer, clock: Clock) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/budgets", tags=["budgets"])

    @router.get("/{budget_id}/explain", operation_id="budgets_explain")
    async def explain(
        principal: Annotated[Principal, Depends(guard(Scope.READ))],
        budget_id: str,
        params: Annotated[ExplainParams, Query()],
    ) -> Response:
        """Show a window at a moment: its numbers, the holds that counted, and what was spent, newest first.

        A page of `spend` may be short, or empty, while `has_more` says that there is another: what is
        read for one page is bounded.
        """
        before = None
        if params.cursor:
            at, before = _place_of(params.cursor)
        else:
            at = clock() if params.at is None else micros_from_text(params.at, field="at")
        query = ExplainQuery(principal.org, _budget_id(budget_id), at, params.run, before, params.limit)
        found = await explainer.explain(query)
        if found is None:
            raise _unknown()
        _check_bound(principal, found.budget)
        return answer(_body(found, at))

    return router


def _body(found: Explanation, at: int) -> dict[str, object]:
    budget = found.budget
    following = found.following
    return {
        "budget": {"id": text_from_id(ID, budget.id), "name": budget.name},
        "at": text_from_micros(at),
        "window": None if found.window is None else _window_then(found, found.window),
        "holds": [_holding(budget, holding) for holding in found.holds],
        "holds_count": found.holds_count,
        "spend": [_posted(budget, posted) for posted in found.spend],
        "has_more": following is not None,
        "next_cursor": None if following is None else _cursor_of(at, following),
    }


def _window_then(found: Explanation, window: Window) -> dict[str, object]:
    """Return the window with its numbers of the moment; null where they are not known."""
    then: Mapping[str, object]
    if found.settled is None or found.held is None:
        known = {"settled": found.settled, "held": found.held}
        then = {
            **{name: v if v is None else amount_text(found.budget, v) for name, v in known.items()},
            "remaining": None,
            "used_ratio": None,
        }
    else:
        counted = msgspec.structs.replace(window, settled=found.settled, held=found.held)
        then = window_body(found.budget, counted)
    return window_body(found.budget, window) | dict(then)


def _holding(budget: Budget, holding: Holding) -> dict[str, object]:
    return {
        "id": text_from_id("hold", holding.id),
        "agent": holding.agent or None,
        "model": holding.model or None,
        "state": holding.state.value,
        "amount": amount_text(budget, holding.amount),
        "created_at": text_from_micros(holding.created_at),
        "expires_at": text_from_micros(holding.expires_at),
    }


def _posted(budget: Budget, posted: Posted) -> dict[str, object]:
    named = {"hold_id": text_from_id("hold", posted.source)}
    if not posted.is_hold:
        named = {"event_id": text_from_id("evt", posted.source)}
    return {
        **named,
        "agent": posted.agent,
        "amount": amount_text(budget, posted.amount),
        "effect": posted.effect.value,
        "at": text_from_micros(posted.at),
    }


def _budget_id(text: str) -> bytes:
    try:
        return id_from_text(text)
    except InvalidInput:
        raise _unknown() from None


def _unknown() -> NotFound:
    return NotFound("there is no such budget; GET /v1/budgets lists them")


def _check_bound(principal: Principal, budget: Budget) -> None:
    """Refuse a key bound to an agent or project what others spend.

    Raises:
        Denied: The budget counts more than the key may see.
    """
    for name, bound, own in (
        ("agent", principal.agent, budget.scope.agent),
        ("project", principal.project, budget.scope.project),
    ):
        if bound and own != bound:
            raise Denied(f"this key reads the {name} {bound} only; the budget counts others too")


def _cursor_of(at: int, place: SpendPlace) -> str:
    """Return a cursor; it keeps the moment, so that pages of a list asked for `now` belong together."""
    packed = msgspec.msgpack.encode((at, *place))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _place_of(cursor: str) -> tuple[int, SpendPlace]:
    """Return the moment and the place that a cursor names.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        moment, at, source, part = msgspec.msgpack.decode(packed, type=tuple[int, int, bytes, int])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        moment, at, source, part = MICROS_MIN - 1, 0, b"", 0
    if not (MICROS_MIN <= moment <= MICROS_MAX and max(abs(at), abs(part)) < NEVER):
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return moment, SpendPlace(at, source, part)
