"""`GET /v1/alerts`: what has happened lately, newest first; and one agent's, for its page.

Each entry carries the fields of the native lists and those of the AgentKavach reference. `alerts` and
`data` are the same list, because another product's clients read the latter.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from bursar.budgets.alert import Alert
from bursar.budgets.book import Occasion
from bursar.budgets.budget import PPM, Budget
from bursar.core.ids import Org, text_from_id
from bursar.core.time import text_from_micros
from bursar.core.zones import day_begins_at, day_of, parse_zone
from bursar.directory.organisations import OrganisationStore
from bursar.enforcement.reading import Sight
from bursar.http.v1.budget_answers import ALERT_ID, alert_body
from bursar.http.v1.budgets import sight_of
from bursar.http.v1.report_query import answer, json_number
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

NEWEST_MAX: Final = 200
_ALERT_PPM: Final = 900_000
_DETAILS: Final[Mapping[Occasion, str]] = {
    Occasion.THRESHOLD: "reached a share of its limit",
    Occasion.INCIDENT: "was exceeded",
    Occasion.OVERRUN: "was overspent by calls that took more than they had asked for",
    Occasion.LOWERED: "got a limit below what was spent or held",
    Occasion.UNAUTHORISED: "counted a call that did not ask before",
    Occasion.GUARD_TRIPPED: "tripped a guard",
    Occasion.TEMPLATE_SKIPPED: "was not made from its template",
}


class AlertRange(StrEnum):
    """How far back: days of the organisation's zone, today included."""

    TODAY = "today"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"


_DAYS: Final = {AlertRange.TODAY: 1, AlertRange.WEEK: 7, AlertRange.MONTH: 30, AlertRange.QUARTER: 90}


class AlertReader(Protocol):
    """The alerts of all budgets."""

    async def alerts(
        self, org: Org, sight: Sight, *, since: int, most: int
    ) -> list[tuple[Alert, Budget | None]]:
        """Return the newest alerts since an instant, newest first, each with its budget."""
        ...


def alerts_router(
    guard: Guard, reader: AlertReader, organisations: OrganisationStore, clock: Callable[[], int]
) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

    @router.get("", operation_id="alerts_list")
    async def list_alerts(
        principal: Annotated[Principal, Depends(guard(Scope.READ))],
        span: Annotated[AlertRange, Query(alias="range", description="How far back.")] = AlertRange.WEEK,
    ) -> Response:
        """List what budgets and guards had to tell, at most the newest 200."""
        organisation = await organisations.get(principal.org)
        since = begins_at(span, organisation.zone, clock())
        found = await reader.alerts(principal.org, sight_of(principal), since=since, most=NEWEST_MAX)
        return answer(alerts_body(found) | {"range": span.value})

    return router


def begins_at(span: AlertRange, zone_name: str, now: int) -> int:
    """Return where a range begins: at midnight of its first day, in the organisation's zone."""
    zone = parse_zone(zone_name)
    return day_begins_at(zone, day_of(zone, now) - timedelta(_DAYS[span] - 1))


def alerts_body(found: list[tuple[Alert, Budget | None]]) -> dict[str, object]:
    """Return a list of alerts."""
    alerts = [_body(alert, budget) for alert, budget in found]
    return {"alerts": alerts, "data": alerts, "total": len(alerts)}


def _body(alert: Alert, budget: Budget | None) -> dict[str, object]:
    plain: dict[str, object] = {
        "timestamp": text_from_micros(alert.at),
        "agent_name": alert.agent or (None if budget is None else budget.scope.agent or None),
        "threshold_pct": alert.share_ppm / PPM if alert.share_ppm else None,
        "level": _level(alert),
        "message": _message(alert, budget),
    }
    if budget is None:
        kept = {"id": text_from_id(ALERT_ID, alert.id), "at": text_from_micros(alert.at)}
        return kept | {"type": alert.occasion.value} | plain
    is_money = budget.is_money
    return (
        alert_body(budget, alert)
        | plain
        | {
            "budget_type": budget.metric.value,
            "period": budget.period.value,
            "current_value": json_number(alert.amount) if is_money else alert.amount,
            "limit_value": json_number(budget.limit) if is_money else budget.limit,
        }
    )


def _level(alert: Alert) -> str:
    if alert.occasion is not Occasion.THRESHOLD:
        return "warning" if alert.occasion is Occasion.LOWERED else "critical"
    if alert.share_ppm >= PPM:
        return "critical"
    return "error" if alert.share_ppm >= _ALERT_PPM else "warning"


def _message(alert: Alert, budget: Budget | None) -> str:
    name = "a budget" if budget is None else budget.name or f"{budget.metric.value} {budget.period.value}"
    if alert.occasion is Occasion.THRESHOLD:
        return f"{name} reached {alert.share_ppm / (PPM // 100):g} % of its limit"
    return f"{name} {_DETAILS.get(alert.occasion, alert.occasion.value)}"
