"""`GET /v1/agents/{name}/budgets`: what an agent may still spend, and whether it is stopped.

One answer in two vocabularies: each budget as `/v1/budgets` shows it, and beside it the four fields of
the AgentKavach reference, whose amounts are JSON numbers.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from bursar.budgets.gate import GateKey, GateKind
from bursar.capture import checks
from bursar.enforcement.reading import Seen
from bursar.enforcement.stops import standing_stop
from bursar.http.v1.budget_answers import KeyTexts, budget_body
from bursar.http.v1.budgets import PAGE_MAX, BudgetRoutes, sight_of
from bursar.http.v1.gates import status_body, unknown
from bursar.http.v1.report_query import answer, json_number
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal


def agent_budgets_router(guard: Guard, routes: BudgetRoutes) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/agents", tags=["budgets"])

    @router.get("/{name:path}/budgets", operation_id="agents_budgets")
    async def agent_budgets(
        principal: Annotated[Principal, Depends(guard(Scope.READ))],
        name: Annotated[str, Path(min_length=1, max_length=checks.NAME_LENGTH_MAX)],
    ) -> Response:
        """Show what may count an agent's calls, at most 200 budgets, with their use, and what stops it."""
        sight = sight_of(principal, agent=name)._replace(is_template=False)
        key = GateKey(GateKind.AGENT, name)
        if name != principal.agent and not await routes.reader.knows(principal.org, key):
            raise unknown(key)
        at = routes.now().at
        found = await routes.reader.budgets(principal.org, sight, at, after=b"", most=PAGE_MAX + 1)
        stop = standing_stop(await routes.reader.gate(principal.org, key, at), key)
        keys = await routes.key_texts(principal.org, [seen.budget.scope for seen in found])
        budgets = [agent_budget_body(seen, keys) for seen in found[:PAGE_MAX]]
        shown = {"budgets": budgets, "data": budgets, "has_more": len(found) > PAGE_MAX}
        return answer({"agent": name, **status_body(stop), **shown})

    return router


def agent_budget_body(seen: Seen, keys: KeyTexts) -> dict[str, object]:
    """Return a budget in both vocabularies."""
    budget, window = seen
    settled, limit = (0, budget.limit) if window is None else (window.settled, window.limit)
    return budget_body(seen, keys) | {
        "budget_type": budget.metric.value,
        "limit_value": json_number(limit) if budget.is_money else limit,
        "current_usage": json_number(settled) if budget.is_money else settled,
        "usage_pct": round(100 * settled / limit, 2),
    }
