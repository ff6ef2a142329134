"""`POST /v1/sync-config`: a client says at its start what its agent may spend, and hears how it stands.

    JSON  →  sync_body  →  enforcement.synced, in one transaction  →  the agent's effective budgets

The published client reads nothing of the answer but its status; ours reads all of it. Not here: the form of
the body (`sync_body`), what changes (`enforcement.synced`).
"""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bursar.budgets.budget import Budget, Scope, terms_of
from bursar.budgets.gate import GateKey, GateKind, GateState
from bursar.budgets.standing import BudgetState, state_of
from bursar.enforcement import synced
from bursar.enforcement.reading import Seen
from bursar.enforcement.stops import StandingStop, standing_stop
from bursar.http.v1.agent_budgets import agent_budget_body
from bursar.http.v1.budget_answers import moment
from bursar.http.v1.budget_forms import documented_body, fields_of
from bursar.http.v1.budgets import PAGE_MAX, BudgetRoutes, sight_of
from bursar.http.v1.gates import status_body
from bursar.http.v1.ingest_body import bound
from bursar.http.v1.report_query import answer
from bursar.http.v1.sync_body import Skipped, SyncForm, sync_form
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.admission import Admission
from bursar.web.guard import Guard
from bursar.web.principal import Principal

POLL_SECONDS: Final = 30
"""How often a client that only reads asks how it stands; a stop comes sooner, with what it sends."""

_STATES: Final = (BudgetState.OK, BudgetState.WARNING, BudgetState.EXCEEDED)
_BUDGET: Final = {
    "type": "object",
    "properties": {
        "budget_type": {"type": "string"},
        "period": {"type": "string"},
        "limit_value": {"type": "number", "exclusiveMinimum": 0},
        "unit": {"type": ["string", "null"]},
    },
    "required": ["limit_value"],
}
_RULES: Final = {
    "type": ["array", "null"],
    "items": {
        "type": "object",
        "properties": {
            "channel": {"type": "string"},
            "threshold_pct": {"type": "number", "description": "A fraction above 0, at most 1."},
            "budget_type": {"type": "string"},
            "target": {"type": ["string", "null"]},
            "secret": {"type": ["string", "null"]},
        },
    },
}
_BODY: Final = documented_body(
    {
        "agent_name": {"type": "string", "minLength": 1, "maxLength": 256},
        "budgets": {"type": ["array", "null"], "items": _BUDGET, "maxItems": 200},
        "alert_configs": _RULES,
        "org_budget": {"anyOf": [_BUDGET, {"type": "null"}]},
        "org_alert_configs": _RULES,
    },
    "agent_name",
)


def sync_config_router(guard: Guard, routes: BudgetRoutes, admission: Admission) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["agents"])

    @router.post("/sync-config", operation_id="sync_config", openapi_extra=_BODY)
    async def sync_config(
        principal: Annotated[Principal, Depends(guard(KeyScope.INGEST))], request: Request
    ) -> Response:
        """Bring an agent's budgets and alert rules to what its process asks for.

        Repeating it changes nothing. What we do not know is listed in `skipped`, never refused.
        """
        form = sync_form(await fields_of(request))
        agent = bound(form.agent, principal.agent, "agent_name")
        await admission.require_open(principal.org)
        await admission.require_room_for(principal.org, agent)
        form = _within_bounds(form, principal)
        scope = Scope(agent=agent, project=principal.project)
        work = partial(synced.sync, agent=agent, parts=form.parts(scope), actor=principal.actor)
        await routes.desk.change(principal.org, work)
        return answer(_counts(form) | await _standing(routes, principal, agent))

    return router


def _within_bounds(form: SyncForm, principal: Principal) -> SyncForm:
    """Return the form as far as the key may go: a bound one speaks for a part, not for everybody."""
    if form.org_budget is None or not (principal.agent or principal.project):
        return form
    reason = "this key is bound to one agent or project; the organisation's budget needs a free one"
    skipped = [*form.skipped, Skipped("org_budget", reason)]
    return form._replace(org_budget=None, org_rules=[], skipped=skipped)


def _counts(form: SyncForm) -> dict[str, object]:
    return {
        "status": "ok",
        "agent_name": form.agent,
        "budgets_synced": len(form.budgets),
        "alerts_synced": len(form.rules) + len(form.org_rules),
        "org_budget_synced": form.org_budget is not None,
        "skipped": [one._asdict() for one in form.skipped],
    }


async def _standing(routes: BudgetRoutes, principal: Principal, agent: str) -> dict[str, object]:
    """Return what counts an agent's calls now, and what stops them."""
    at = routes.now().at
    sight = sight_of(principal, agent=agent)._replace(is_template=False)
    found = await routes.reader.budgets(principal.org, sight, at, after=b"", most=PAGE_MAX)
    key = GateKey(GateKind.AGENT, agent)
    stop = standing_stop(await routes.reader.gate(principal.org, key, at), key)
    keys = await routes.key_texts(principal.org, [seen.budget.scope for seen in found])
    status = status_body(stop)
    return {
        "budgets": [agent_budget_body(seen, keys) for seen in found],
        "budget_state": _worst(found).value,
        "killed": stop is not None and stop.stopped.state is GateState.KILLED,
        "agent_status": status["status"],
        "stopped_by": status["stopped_by"],
        "resume_at": _resume_at(stop),
        "config_version": _version([seen.budget for seen in found]),
        "poll_interval_s": POLL_SECONDS,
    }


def _worst(found: Sequence[Seen]) -> BudgetState:
    states = [state_of(window, terms_of(budget)) for budget, window in found if window is not None]
    return max(states, key=_STATES.index, default=BudgetState.OK)


def _resume_at(stop: StandingStop | None) -> str | None:
    if stop is None or stop.stopped.resume_at is None:
        return None
    return moment(stop.stopped.resume_at)


def _version(budgets: Sequence[Budget]) -> str:
    """Return what is the same as long as no budget of the agent has changed."""
    plain = msgspec.json.encode([msgspec.structs.replace(one, id=b"") for one in budgets])
    ids = b"".join(one.id for one in budgets)
    return blake2b(ids + plain, digest_size=8).hexdigest()
