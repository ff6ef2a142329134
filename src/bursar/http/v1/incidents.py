"""/v1/incidents: crossings of hard limits, and what people decide about them.

One incident a crossing: raise the window's limit, raise it until a time, or keep it stopped. A raise
is effective for the next authorise. Not here: what a raise does (`budgets.incident`).
"""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from bursar.budgets.budget import Budget
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.budgets.reading import limit_from
from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import id_from_text, text_from_id
from bursar.core.time import micros_from_text
from bursar.enforcement import administration
from bursar.enforcement.changes import Change
from bursar.enforcement.reading import SeenIncident
from bursar.http.v1.budget_answers import INCIDENT_ID, approval_body, incident_body
from bursar.http.v1.budget_forms import Fields, documented_body, fields_of, only, text_field
from bursar.http.v1.budgets import (
    NEWEST,
    BudgetRoutes,
    ListParams,
    page_of,
    place_of,
    require_whole,
    sight_of,
)
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

NOTE_LENGTH_MAX: Final = 1_000
_NOTE = {"type": "string", "maxLength": NOTE_LENGTH_MAX}
_RAISE = documented_body(
    {
        "limit": {"type": "string", "description": "In the budget's unit.", "examples": ["2.00"]},
        "until": {"type": "string", "format": "date-time", "description": "When the raise ends by itself."},
        "note": _NOTE,
    },
    "limit",
)
_KEEP = documented_body({"note": _NOTE})


class IncidentParams(ListParams):
    """The parameters of `GET /v1/incidents`."""

    state: Literal["open", "decided"] | None = Field(
        default=None, description="Only open, or only decided ones."
    )


def incidents_router(guard: Guard, routes: BudgetRoutes) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/incidents", tags=["incidents"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type
    Admin = Annotated[Principal, Depends(guard(Scope.BUDGETS))]  # noqa: N806 - a type

    @router.get("", operation_id="incidents_list")
    async def list_incidents(
        principal: Reader, params: Annotated[IncidentParams, Query()]
    ) -> dict[str, object]:
        """List crossings of hard limits, newest first."""
        found = await routes.reader.incidents(
            principal.org,
            sight_of(principal),
            is_open=None if params.state is None else params.state == "open",
            before=place_of(params.cursor, NEWEST),
            most=params.limit + 1,
        )
        page = found[: params.limit]
        keys = await routes.key_texts(principal.org, [seen.budget.scope for seen in page])
        following = text_from_id(INCIDENT_ID, page[-1].incident.id) if len(found) > params.limit else None
        return page_of([incident_body(seen, keys) for seen in page], following)

    @router.get("/{incident_id}", operation_id="incidents_get")
    async def get_incident(principal: Reader, incident_id: str) -> dict[str, object]:
        """Show one incident with what was decided about it."""
        return await _shown(routes, principal, await _found(routes, principal, incident_id))

    @router.post("/{incident_id}/raise", operation_id="incidents_raise", openapi_extra=_RAISE)
    async def raise_limit(principal: Admin, incident_id: str, request: Request) -> dict[str, object]:
        """Raise the limit of the incident's window, or raise it until a time; a repeat changes nothing."""
        require_whole(principal)
        seen = await _found(routes, principal, incident_id)
        decision = _raise_of(await fields_of(request), seen.budget, principal.actor)
        return await _decided(routes, principal, seen, decision)

    @router.post("/{incident_id}/keep", operation_id="incidents_keep", openapi_extra=_KEEP)
    async def keep(principal: Admin, incident_id: str, request: Request) -> dict[str, object]:
        """Keep the budget stopped at its limit. Repeating it changes nothing."""
        require_whole(principal)
        seen = await _found(routes, principal, incident_id)
        fields = await fields_of(request)
        only(fields, "note")
        note = text_field(fields, "note", length_max=NOTE_LENGTH_MAX)
        decision = Decision(Resolution.KEPT_STOPPED, principal.actor, note)
        return await _decided(routes, principal, seen, decision)

    return router


async def _found(routes: BudgetRoutes, principal: Principal, incident_id: str) -> SeenIncident:
    """Return an incident of a budget that the caller may see.

    Raises:
        NotFound: There is none.
    """
    found = await routes.reader.incident(principal.org, id_from_text(incident_id, field="incident_id"))
    if found is None or not sight_of(principal).shows(found.budget):
        raise NotFound("there is no such incident; GET /v1/incidents lists them", field="incident_id")
    return found


async def _shown(routes: BudgetRoutes, principal: Principal, seen: SeenIncident) -> dict[str, object]:
    approvals = await routes.reader.approvals(principal.org, seen.incident.id)
    keys = await routes.key_texts(principal.org, [seen.budget.scope])
    return incident_body(seen, keys) | {"approvals": [approval_body(seen.budget, one) for one in approvals]}


async def _decided(
    routes: BudgetRoutes, principal: Principal, seen: SeenIncident, decision: Decision
) -> dict[str, object]:
    """Decide an incident, or find that it was decided in just this way before.

    Raises:
        Conflict: It was decided otherwise.
    """
    org, incident_id = principal.org, seen.incident.id

    async def work(change: Change) -> Incident:
        return await administration.decide(change, incident_id, decision)

    await routes.desk.change(org, work)
    after = await routes.reader.incident(org, incident_id)
    return await _shown(routes, principal, after or seen)


def _raise_of(fields: Fields, budget: Budget, actor: str) -> Decision:
    """Return the raise that a body asks for.

    Raises:
        InvalidInput: A field is unknown, missing or wrong; `field` names it.
    """
    only(fields, "limit", "until", "note")
    limit = limit_from(fields.get("limit"), budget.metric)
    note = text_field(fields, "note", length_max=NOTE_LENGTH_MAX)
    until = fields.get("until")
    if until is None:
        return Decision(Resolution.RAISED, actor, note, limit)
    if not isinstance(until, str):
        raise InvalidInput("until must be an RFC 3339 time, for example 2026-03-01T14:00:00Z", field="until")
    return Decision(Resolution.RAISED_UNTIL, actor, note, limit, micros_from_text(until, field="until"))
