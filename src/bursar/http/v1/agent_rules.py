"""What bounds one agent, as its page shows and sets it: alerts, alert configs, a budget of its own.

The same alerts, configs and budgets stand in the lists of the organisation. Not here: budgets read
(`agent_budgets`), stops (`gates`).
"""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bursar.analytics.agents import AgentReader
from bursar.analytics.query import Dim
from bursar.budgets.budget import Scope
from bursar.budgets.gate import GateKey, GateKind
from bursar.capture import checks
from bursar.core.time import MICROS_MIN
from bursar.enforcement.alert_configs import ConfigReader
from bursar.enforcement.by_hand import set_limit
from bursar.http.v1.agent_budgets import agent_budget_body
from bursar.http.v1.agents import Name, require_known
from bursar.http.v1.alert_configs import configs_of_agent, require_no_project
from bursar.http.v1.alerts import NEWEST_MAX, AlertReader, alerts_body
from bursar.http.v1.budget_forms import fields_of, only
from bursar.http.v1.budgets import BudgetRoutes, require_whole, sight_of
from bursar.http.v1.gates import unknown
from bursar.http.v1.org_budgets import LIMIT_DOCUMENTED, LIMIT_FIELDS, limit_of
from bursar.http.v1.report_query import answer, bound_filters
from bursar.identity.keys import Scope as KeyScope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

_UPSERTED: Final[dict[int | str, dict[str, object]]] = {
    200: {"description": "There was one of that type and period: it has the new limit now."}
}


def agent_rules_router(
    guard: Guard, routes: BudgetRoutes, agents: AgentReader, alerts: AlertReader, configs: ConfigReader
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"])
    Reader = Annotated[Principal, Depends(guard(KeyScope.READ))]  # noqa: N806 - a type

    @router.get("/{name:path}/alerts", operation_id="agents_alerts")
    async def list_alerts(principal: Reader, name: Name) -> Response:
        """List the newest 200 alerts of an agent: of its own budgets, and of others that its calls caused."""
        sight = sight_of(principal, agent=name)
        await require_known(agents, principal.org, name)
        found = await alerts.alerts(principal.org, sight, since=MICROS_MIN, most=NEWEST_MAX)
        return answer({"agent_name": name} | alerts_body(found))

    @router.get("/{name:path}/configs", operation_id="agents_configs")
    async def list_configs(principal: Reader, name: Name) -> Response:
        """List an agent's alert configs, oldest first, at most 200."""
        bound_filters(principal, {Dim.AGENT: name})
        require_no_project(principal)
        await require_known(agents, principal.org, name)
        found = await configs_of_agent(configs, principal.org, name)
        return answer({"agent_name": name, "configs": found, "data": found})

    @router.post(
        "/{name:path}/budgets",
        status_code=201,
        operation_id="agents_budgets_set",
        openapi_extra=LIMIT_DOCUMENTED,
        responses=_UPSERTED,
    )
    async def set_budget(
        principal: Annotated[Principal, Depends(guard(KeyScope.BUDGETS))], name: Name, request: Request
    ) -> Response:
        """Set an agent's own limit of one type and period; a second one of both changes the first.

        Budgets that the agent's client brings along stay beside it, and each of them counts.
        """
        require_whole(principal)
        agent = checks.name(name, "name")
        fields = await fields_of(request)
        only(fields, *LIMIT_FIELDS)
        limit = limit_of(fields)
        key = GateKey(GateKind.AGENT, agent)
        if not await routes.reader.knows(principal.org, key):
            raise unknown(key)
        zone = await routes.reader.zone(principal.org)
        work = partial(set_limit, scope=Scope(agent=agent), limit=limit, zone=zone, actor=principal.actor)
        budget_id, is_new = await routes.desk.change(principal.org, work)
        made = answer(agent_budget_body(await routes.seen(principal, budget_id), {}))
        made.status_code = 201 if is_new else 200
        return made

    return router
