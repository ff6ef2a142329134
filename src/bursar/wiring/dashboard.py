"""The routes that show agents, runs and the organisation's overview, put together for `treasury`.

Sums that are kept in memory are made here once and shared by the routes.
"""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from bursar.http.v1 import agents, dashboard, runs
from bursar.http.v1.agent_rules import agent_rules_router
from bursar.http.v1.settings import settings_router
from bursar.storage.sql.agent_lists import SqlAgents
from bursar.storage.sql.overview import SqlOverviews
from bursar.storage.sql.ports import Readers
from bursar.storage.sql.run_lists import SqlRuns
from bursar.storage.sql.span_sums import SpanSums, Told
from bursar.web.guard import Guard

if TYPE_CHECKING:
    from bursar.wiring.treasury import Treasury


def dashboard_routers(treasury: "Treasury", readers: Readers, guard: Guard) -> list[APIRouter]:
    """Return the routes over an open ledger; they come after all other routes below `/v1/agents`."""
    enforcement, events, clock = treasury.enforcement, treasury.events, treasury.clock
    by_agent = SpanSums(Told.BY_AGENT)
    known, overviews = SqlAgents(readers, by_agent), SqlOverviews(readers, by_agent)
    organisations, reports = treasury.organisations, treasury.reports
    rejected = treasury.admission.rejected_agents
    return [
        settings_router(guard, organisations, clock),
        dashboard.dashboard_router(guard, dashboard.Readers(overviews, reports, clock)),
        runs.runs_router(guard, runs.Readers(known, SqlRuns(readers), events, clock)),
        agent_rules_router(guard, enforcement.budget_routes, known, enforcement.configs, enforcement.configs),
        agents.agents_router(guard, agents.Readers(known, events, reports, organisations, rejected, clock)),
    ]
