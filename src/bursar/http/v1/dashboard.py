"""`/v1/dashboard`: the organisation's overview, its spend over time, its dearest models and agents.

In the AgentKavach vocabulary. Weeks are ISO weeks from Monday, months calendar months, both in the
organisation's zone. Not here: settings (`settings`), rankings by anything else (`reports`).
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bursar.analytics import query as ask
from bursar.analytics.agents import periods_at
from bursar.analytics.overview import InPeriod, OrgBudget, Overview, OverviewReader, Rank, Ranking
from bursar.analytics.ports import ReportReader
from bursar.analytics.query import Span
from bursar.analytics.series import series
from bursar.analytics.slices import Granularity, slices
from bursar.core.errors import InvalidInput
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, Clock, hour_of, text_from_micros
from bursar.core.zones import day_begins_at, day_of, parse_zone, range_end, range_start
from bursar.http.v1.agent_answers import measures_body, percent, use_body
from bursar.http.v1.budgets import require_whole
from bursar.http.v1.report_query import TEXT_MAX, answer, bound_filters, json_number
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

DAYS_MAX: Final = 90
RANKED: Final = 10


class RangeName(StrEnum):
    """The ranges that have a name. The values stand in the API."""

    TODAY = "today"
    SEVEN_DAYS = "7d"
    THIRTY_DAYS = "30d"
    CUSTOM = "custom"


_DAYS: Final = {RangeName.TODAY: 1, RangeName.SEVEN_DAYS: 7, RangeName.THIRTY_DAYS: 30}


class SpendGranularity(StrEnum):
    """How long a point of the spend series is. The values stand in the API."""

    HOURLY = "hourly"
    DAILY = "daily"


class DashboardParams(BaseModel):
    """Which range: the parameters of the overview and the rankings."""

    model_config = ConfigDict(extra="ignore")

    range: RangeName = Field(
        default=RangeName.TODAY, description="`7d` and `30d` are whole days with today as the last one."
    )
    from_date: str | None = Field(
        default=None, max_length=TEXT_MAX, description="With `custom`: first day, or RFC 3339."
    )
    to_date: str | None = Field(
        default=None, max_length=TEXT_MAX, description="With `custom`: last day, included, or RFC 3339."
    )


class RankParams(DashboardParams):
    """The parameters of `GET /v1/dashboard/stats`."""

    limit: int = Field(default=RANKED, ge=1, le=100, description="Most models and most agents.")


class SpendParams(BaseModel):
    """The parameters of `GET /v1/dashboard/spend`."""

    model_config = ConfigDict(extra="ignore")

    granularity: SpendGranularity = Field(default=SpendGranularity.HOURLY, description="How long a point is.")
    days: int = Field(
        default=7, ge=1, le=DAYS_MAX, description="Up to now, the present hour or day included."
    )


class Readers(NamedTuple):
    """What the routes read from; `clock` gives microseconds UTC."""

    overviews: OverviewReader
    reports: ReportReader
    clock: Clock


def dashboard_router(guard: Guard, readers: Readers) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("/overview", operation_id="dashboard_overview")
    async def read_overview(principal: Reader, params: Annotated[DashboardParams, Query()]) -> Response:
        """Show what was spent today, this week and this month, and in the range that is asked for."""
        require_whole(principal)
        zone = parse_zone(await readers.reports.zone(principal.org))
        now = readers.clock()
        asked = _range(params, zone, now)
        spans = (*periods_at(zone, now), asked)
        overview = await readers.overviews.overview(principal.org, spans, now)
        return answer(_overview_body(overview) | _range_body(params.range, asked, overview.periods[3], zone))

    @router.get("/spend", operation_id="dashboard_spend")
    async def read_spend(principal: Reader, params: Annotated[SpendParams, Query()]) -> Response:
        """Show spend by hour or day, oldest first, without holes."""
        zone = parse_zone(await readers.reports.zone(principal.org))
        granularity, span = _series_of(params, zone, readers.clock())
        pieces = slices(granularity, zone, span)
        spans = tuple(piece.span for piece in pieces)
        query = ask.Query(principal.org, span, (), bound_filters(principal, {}), spans)
        report = await readers.reports.report(query)
        data = [
            {
                "timestamp": text_from_micros(pieces[point.piece].span.starts_at),
                "period": pieces[point.piece].name,
                **measures_body(point.measures),
            }
            for point in series(report, pieces=len(pieces), dim=None, shown=1)
        ]
        about = {"granularity": params.granularity.value, "days": params.days, "timezone": zone.key}
        return answer({"series": data, "data": data, "total": measures_body(report.total), **about})

    @router.get("/stats", operation_id="dashboard_stats")
    async def read_stats(principal: Reader, params: Annotated[RankParams, Query()]) -> Response:
        """Show the models and the agents with the highest spend in a range."""
        require_whole(principal)
        zone = parse_zone(await readers.reports.zone(principal.org))
        now = readers.clock()
        asked = _range(params, zone, now)
        ranking = await readers.overviews.ranking(principal.org, asked, now, most=params.limit)
        about = {
            "range": params.range.value,
            "starts_at": text_from_micros(asked.starts_at),
            "ends_at": text_from_micros(asked.ends_at),
            "timezone": zone.key,
        }
        return answer(_ranking_body(ranking) | about)

    return router


def _range(params: DashboardParams, zone: ZoneInfo, now: int) -> Span:
    """Return the instants of a range; named ones end with today.

    Raises:
        InvalidInput: A custom range without both ends, a text that is no date or time, or an empty range.
    """
    if params.range is not RangeName.CUSTOM:
        return _days_up_to(zone, now, _DAYS[params.range])
    if not params.from_date or not params.to_date:
        missing = "to_date" if params.from_date else "from_date"
        raise InvalidInput(f"{missing} is required with range=custom", field=missing)
    starts_at = range_start(params.from_date, zone, field="from_date")
    ends_at = range_end(params.to_date, zone, field="to_date")
    if starts_at >= ends_at:
        raise InvalidInput("from_date must be before to_date", field="from_date")
    return Span(starts_at, ends_at)


def _days_up_to(zone: ZoneInfo, now: int, days: int) -> Span:
    today = day_of(zone, now)
    first = day_begins_at(zone, today - timedelta(days - 1))
    return Span(first, day_begins_at(zone, today + timedelta(1)))


def _series_of(params: SpendParams, zone: ZoneInfo, now: int) -> tuple[Granularity, Span]:
    """Return the pieces' length and the span of a series: whole days with today, or hours with this one."""
    if params.granularity is SpendGranularity.DAILY:
        return Granularity.DAY, _days_up_to(zone, now, params.days)
    ends_at = hour_of(now) + MICROS_PER_HOUR
    return Granularity.HOUR, Span(ends_at - params.days * MICROS_PER_DAY, ends_at)


def _overview_body(overview: Overview) -> dict[str, object]:
    """Return the fields of the reference."""
    today, week, month = overview.periods[:3]
    return {
        "total_spend_today": json_number(today.used.cost_nusd),
        "total_spend_week": json_number(week.used.cost_nusd),
        "total_spend_month": json_number(month.used.cost_nusd),
        "events_today": today.used.events,
        "events_week": week.used.events,
        "events_month": month.used.events,
        "tier": overview.plan,
        "active_agents_today": today.active_agents,
        "active_agents_week": week.active_agents,
        "active_agents_month": month.active_agents,
        "events_per_day": overview.events_per_day,
        "max_agents": overview.max_agents,
        "input_tokens_today": today.used.input_tokens,
        "output_tokens_today": today.used.output_tokens,
        "duration_ms_today": today.used.duration_ms,
        **_budget_body(overview.budget),
    }


def _budget_body(budget: OrgBudget | None) -> dict[str, object]:
    """Return the organisation's budget; null in every field without one."""
    return {
        "org_budget_limit": None if budget is None else json_number(budget.limit_nusd),
        "org_budget_used": None if budget is None else json_number(budget.used_nusd),
        "org_budget_pct": None if budget is None else percent(budget.used_nusd, budget.limit_nusd),
        "org_budget_period": None if budget is None else budget.period.value,
    }


def _range_body(name: RangeName, asked: Span, found: InPeriod, zone: ZoneInfo) -> dict[str, object]:
    """Return what the range adds to the reference's fields."""
    used = found.used
    return {
        "range": name.value,
        "starts_at": text_from_micros(asked.starts_at),
        "ends_at": text_from_micros(asked.ends_at),
        "timezone": zone.key,
        "total_spend_range": json_number(used.cost_nusd),
        "events_range": used.events,
        "active_agents_range": found.active_agents,
        "input_tokens_range": used.input_tokens,
        "output_tokens_range": used.output_tokens,
        "duration_ms_range": used.duration_ms,
        "unpriced_events_range": used.unpriced,
    }


def _ranking_body(ranking: Ranking) -> dict[str, object]:
    """Return both rankings, each entry with its share of the whole cost, and the total of all."""
    total = ranking.total

    def body(rank: Rank) -> dict[str, object]:
        return use_body(rank.used) | {"cost_pct": percent(rank.used.cost_nusd, total.cost_nusd) or 0.0}

    return {
        "top_models": [{"model": one.name, "provider": one.provider} | body(one) for one in ranking.models],
        "top_agents": [{"agent_name": one.name} | body(one) for one in ranking.agents],
        "total": use_body(total),
    }
