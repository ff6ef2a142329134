"""/v1/org/budgets: the organisation's own budgets in the words of the AgentKavach reference.

Views over the budgets of `/v1/budgets` whose scope is empty; amounts are JSON numbers. What is set here
is a person's: the budgets that clients bring along stand beside it, and every one of them counts.
"""

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import Scope
from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import id_from_text
from bursar.core.periods import Period
from bursar.enforcement import administration
from bursar.enforcement.by_hand import Limit, set_limit
from bursar.enforcement.changes import Change
from bursar.enforcement.reading import EVERYTHING, Seen
from bursar.http.v1.agent_budgets import agent_budget_body
from bursar.http.v1.budget_forms import Fields, documented_body, fields_of
from bursar.http.v1.budgets import PAGE_MAX, BudgetRoutes, require_whole
from bursar.http.v1.report_query import answer
from bursar.http.v1.sync_body import amount_of
from bursar.identity.keys import Scope as KeyScope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

TYPES: Final = ("cost", "tokens_total", "tokens_input", "tokens_output", "calls", "duration")
PERIODS: Final = ("daily", "monthly", "total")
LIMIT_FIELDS: Final = {
    "budget_type": {"type": "string", "enum": [*TYPES]},
    "period": {"type": "string", "enum": [*PERIODS]},
    "limit_value": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "US dollars, tokens, calls or ms.",
    },
}
LIMIT_DOCUMENTED: Final = documented_body(LIMIT_FIELDS, *LIMIT_FIELDS)

_UPSERTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "There was one of that type and period: it has the new limit now."}
}


def org_budgets_router(guard: Guard, routes: BudgetRoutes) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/org/budgets", tags=["budgets"])
    Changer = Annotated[Principal, Depends(guard(KeyScope.BUDGETS))]  # noqa: N806 - a type

    @router.get("", operation_id="org_budgets_list")
    async def list_org_budgets(
        principal: Annotated[Principal, Depends(guard(KeyScope.READ))],
    ) -> Response:
        """List the budgets of the whole organisation, each with its use now and the share of its limit."""
        found = [one for one in await _all(routes, principal) if one.budget.scope == Scope()]
        budgets = [agent_budget_body(seen, {}) for seen in found[:PAGE_MAX]]
        return answer({"budgets": budgets, "data": budgets, "total": len(budgets)})

    @router.post(
        "",
        status_code=201,
        operation_id="org_budgets_set",
        openapi_extra=LIMIT_DOCUMENTED,
        responses=_UPSERTED,
    )
    async def set_org_budget(principal: Changer, request: Request) -> Response:
        """Set the organisation's limit of one type and period; a second one of both changes the first."""
        require_whole(principal)
        limit = limit_of(await fields_of(request))
        zone = await routes.reader.zone(principal.org)
        work = partial(set_limit, scope=Scope(), limit=limit, zone=zone, actor=principal.actor)
        budget_id, is_new = await routes.desk.change(principal.org, work)
        made = answer(agent_budget_body(await routes.seen(principal, budget_id), {}))
        made.status_code = 201 if is_new else 200
        return made

    @router.delete("/{budget_id}", status_code=204, operation_id="org_budgets_delete")
    async def delete_org_budget(principal: Changer, budget_id: str) -> Response:
        """End a budget of the whole organisation."""
        require_whole(principal)
        found = id_from_text(budget_id, field="budget_id")

        async def work(change: Change) -> None:
            if change.named(found).scope != Scope():
                raise NotFound("the organisation has no such budget; GET /v1/org/budgets lists them")
            await administration.delete_budget(change, found, actor=principal.actor)

        await routes.desk.change(principal.org, work)
        return Response(status_code=204)

    return router


def limit_of(fields: Fields) -> Limit:
    """Return the limit that a body of the reference asks for.

    Raises:
        InvalidInput: An unknown type or period, or a limit that is no number above zero.
    """
    metric = _one_of(fields, "budget_type", TYPES)
    period = _one_of(fields, "period", PERIODS)
    amount = amount_of(fields.get("limit_value"), Metric(metric), "limit_value")
    return Limit(Metric(metric), Period(period), amount)


def _one_of(fields: Fields, field: str, known: tuple[str, ...]) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or value not in known:
        raise InvalidInput(f"{field} must be one of {', '.join(known)}", field=field)
    return value


async def _all(routes: BudgetRoutes, principal: Principal) -> list[Seen]:
    """Return the budgets that everybody's calls meet; a bound key sees them too, since they bind it."""
    sight = EVERYTHING._replace(is_template=False)
    seen: list[Seen] = []
    at, after = routes.now().at, b""
    while True:
        page = await routes.reader.budgets(principal.org, sight, at, after=after, most=PAGE_MAX)
        seen += page
        if len(page) < PAGE_MAX:
            return seen
        after = page[-1].budget.id
