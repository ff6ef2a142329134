"""The routes that the AgentKavach client and its dashboard speak to, put together for `treasury`.

Budgets, agents' standings and ingestion come from their own parts; nothing here decides anything.
"""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from bursar.core.ids import Org
from bursar.http.v1.alert_configs import alert_configs_router
from bursar.http.v1.alerts import alerts_router
from bursar.http.v1.billing import billing_router
from bursar.http.v1.org_budgets import org_budgets_router
from bursar.http.v1.sync_config import sync_config_router
from bursar.web.guard import Guard

if TYPE_CHECKING:
    from bursar.wiring.treasury import Treasury


def client_routers(treasury: "Treasury", guard: Guard) -> list[APIRouter]:
    """Return the routes over an open ledger."""
    enforcement = treasury.enforcement
    budgets, configs = enforcement.budget_routes, enforcement.configs

    def forget(org: Org) -> None:
        treasury.admission.forget(org)
        treasury.authenticator.forget()

    return [
        sync_config_router(guard, budgets, treasury.admission),
        org_budgets_router(guard, budgets),
        # Before the alerts, whose list has the shorter path.
        alert_configs_router(guard, budgets, configs),
        alerts_router(guard, configs, treasury.organisations, treasury.clock),
        billing_router(guard, treasury.organisations, treasury.clock, forget),
    ]
