"""GET /v1/holds and /v1/holds/{id}: who holds what of which budgets, until when.

A key that is bound to an agent or a project sees its own holds only. Not here: asking and
settling (`holds`).
"""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from bursar.budgets.hold import HoldKind, HoldState
from bursar.core.errors import Denied, InvalidInput, NotFound
from bursar.core.ids import id_from_text, key_from_text
from bursar.enforcement.hold_reading import HoldPage, HoldQuery, HoldReader, KnownBudgets, ShownHold
from bursar.http.v1.hold_answers import hold_body
from bursar.http.v1.report_query import TEXT_MAX, answer, text
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

PAGE_MAX = 200


class HoldParams(BaseModel):
    """The parameters of `GET /v1/holds`."""

    budget: str | None = text("Budget, by id: holds that have a part in it.")
    state: HoldState | None = Field(default=None, description="Only holds in this state.")
    agent: str | None = text("Agent, by name.")
    kind: HoldKind | None = Field(default=None, description="`call` or `lease`.")
    idempotency_key: str | None = text("The one hold that stands for this key.")
    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most holds.")
    cursor: str | None = text("`next_cursor` of the page before.")


def holds_router(guard: Guard, reader: HoldReader, budgets: KnownBudgets) -> APIRouter:
    """Return the routes over `reader`."""
    router = APIRouter(prefix="/v1/holds", tags=["holds"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    async def body(principal: Principal, shown: ShownHold) -> dict[str, object]:
        return hold_body(shown.hold, shown.windows, await budgets.of(principal.org, shown.windows))

    @router.get("", operation_id="holds_list")
    async def list_holds(principal: Reader, params: Annotated[HoldParams, Query()]) -> Response:
        """List holds, newest first; with `state=open`, those that last longest first.

        A page may be short and still have a next one: how far one request looks is bounded.
        """
        query = _query(principal, params)
        if params.idempotency_key is not None:
            one = await reader.by_key(principal.org, key_from_text(params.idempotency_key))
            page = HoldPage([one] if one is not None and _fits(one, query) else [], None)
        else:
            page = await reader.page(principal.org, query)
        return answer(
            {
                "data": [await body(principal, shown) for shown in page.holds],
                "has_more": page.following is not None,
                "next_cursor": _cursor_of(page.following),
            }
        )

    @router.get("/{hold_id}", operation_id="holds_get")
    async def get_hold(
        principal: Reader,
        hold_id: Annotated[str, Path(max_length=TEXT_MAX, description="`hold_…` or a UUID.")],
    ) -> Response:
        """Show one hold and its windows as they are now."""
        try:
            shown = await reader.get(principal.org, id_from_text(hold_id))
        except InvalidInput:
            shown = None
        if shown is None or not _is_own(principal, shown):
            raise NotFound("there is no such hold; GET /v1/holds lists them", field="hold_id")
        return answer(await body(principal, shown))

    return router


def _query(principal: Principal, params: HoldParams) -> HoldQuery:
    """Return what is asked for, within what the key may see.

    Raises:
        Denied: The key is bound to another agent than the one asked for.
        InvalidInput: No id of a budget, or no cursor of ours.
    """
    if principal.agent and params.agent not in {None, "", principal.agent}:
        raise Denied(f"this key reads the agent {principal.agent} only", field="agent")
    return HoldQuery(
        agent=principal.agent or params.agent or "",
        project=principal.project,
        budget=id_from_text(params.budget, field="budget") if params.budget else None,
        state=params.state,
        kind=params.kind,
        before=_place_of(params.cursor),
        most=params.limit,
    )


def _fits(shown: ShownHold, query: HoldQuery) -> bool:
    """Tell whether the hold of a key is one that the other filters let pass."""
    hold = shown.hold
    return (
        query.agent in {"", hold.call.agent}
        and query.project in {"", hold.call.project}
        and query.state in {None, hold.state}
        and query.kind in {None, hold.kind}
        and (query.budget is None or any(leg.window.budget == query.budget for leg in hold.legs))
    )


def _is_own(principal: Principal, shown: ShownHold) -> bool:
    call = shown.hold.call
    return principal.agent in {"", call.agent} and principal.project in {"", call.project}


def _cursor_of(place: bytes | None) -> str | None:
    return None if place is None else base64.urlsafe_b64encode(place).decode()


def _place_of(cursor: str | None) -> bytes:
    """Return the place that a cursor names.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    try:
        return base64.b64decode(cursor or "", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor") from None
