"""`/v1/agents`: every agent with what it spent and how it stands, one in detail, its events and alerts.

In the AgentKavach vocabulary. Not here: stops (`gates`), budgets (`agent_budgets`), runs (`runs`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bursar.analytics.agents import AGENTS_MAX, Agent, AgentPage, AgentQuery, AgentReader, periods_at
from bursar.analytics.events import PAGE_MAX, EventQuery
from bursar.analytics.ports import EventReader, ReportReader
from bursar.analytics.query import Dim, Span
from bursar.analytics.slices import Granularity, slices
from bursar.capture import checks
from bursar.core.errors import Denied, InvalidInput, NotFound
from bursar.core.ids import Org
from bursar.core.time import MICROS_MAX, MICROS_MIN, Clock
from bursar.core.zones import day_begins_at, day_of, parse_zone, range_end, range_start
from bursar.directory.organisations import OrganisationStore
from bursar.http.v1.agent_answers import agent_body, detail_body, event_body, history_body
from bursar.http.v1.events_read import cursor_of, place_of
from bursar.http.v1.report_query import DEFAULT_DAYS, TEXT_MAX, answer, bound_filters
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

HISTORY_DAYS: Final = 7
EVERYTHING: Final = Span(MICROS_MIN, MICROS_MAX + 1)

Name = Annotated[str, Path(min_length=1, max_length=checks.NAME_LENGTH_MAX, description="An agent's name.")]

_encode = msgspec.json.Encoder().encode


class AgentParams(BaseModel):
    """The parameters of `GET /v1/agents`."""

    model_config = ConfigDict(extra="ignore")

    start: str | None = Field(
        default=None, max_length=TEXT_MAX, description="Where `range_…` begins: RFC 3339, or a day."
    )
    end: str | None = Field(
        default=None, max_length=TEXT_MAX, description="Where it ends: RFC 3339, or a day, included."
    )
    limit: int = Field(default=AGENTS_MAX, ge=1, le=AGENTS_MAX, description="Most agents.")
    cursor: str | None = Field(
        default=None, max_length=TEXT_MAX, description="`next_cursor` of the page before."
    )


class PageParams(BaseModel):
    """The parameters of a page of events or runs."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most entries.")
    cursor: str | None = Field(
        default=None, max_length=TEXT_MAX, description="`next_cursor` of the page before."
    )


class Readers(NamedTuple):
    """What the routes read from.

    Attributes:
        rejected: The agents of an organisation whose events are dropped, as more agents are known
            than it may have.
        clock: Microseconds UTC.
    """

    agents: AgentReader
    events: EventReader
    reports: ReportReader
    organisations: OrganisationStore
    rejected: Callable[[Org], Sequence[str]]
    clock: Clock


def agents_router(guard: Guard, readers: Readers) -> APIRouter:
    """Return the routes; the last one takes any path, so those of other modules come before it."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("", operation_id="agents_list")
    async def list_agents(principal: Reader, params: Annotated[AgentParams, Query()]) -> Response:
        """List agents by name, each with what it spent today, this week, this month, in a range and in all.

        Without `start` and `end` the range is today.
        """
        require_no_project(principal)
        organisation = await readers.organisations.get(principal.org)
        now = readers.clock()
        zone = parse_zone(organisation.zone)
        periods = periods_at(zone, now)
        asked = _range(params, zone) or periods.today
        query = AgentQuery(
            principal.org, now, (*periods, asked), params.cursor or "", principal.agent, params.limit
        )
        page = await readers.agents.agents(query)
        about = {
            "tier": organisation.plan,
            "timezone": organisation.zone,
            "rejected_agents": [] if principal.agent else list(readers.rejected(principal.org)),
        }
        # Thousands of agents are some megabytes of JSON; the loop goes on meanwhile.
        body = await asyncio.to_thread(_encoded, page, now, about)
        return Response(body, media_type="application/json")

    @router.get("/{name:path}/events", operation_id="agents_events")
    async def list_events(principal: Reader, name: Name, params: Annotated[PageParams, Query()]) -> Response:
        """List an agent's calls, newest first, each as it stands after its corrections."""
        filters = {Dim.AGENT: name} | bound_filters(principal, {Dim.AGENT: name})
        await require_known(readers.agents, principal.org, name)
        query = EventQuery(principal.org, EVERYTHING, filters, place_of(params.cursor), params.limit)
        page = await readers.events.page(query)
        events = [event_body(event) for event in page.events]
        following = cursor_of(page.events[-1].row) if page.has_more else None
        shown = {"events": events, "data": events, "has_more": page.has_more, "next_cursor": following}
        return answer({"agent_name": name, **shown})

    @router.get("/{name:path}", operation_id="agents_get")
    async def get_agent(principal: Reader, name: Name) -> Response:
        """Show an agent: spend by period, the models of thirty days, the last seven days one by one."""
        require_no_project(principal)
        bound_filters(principal, {Dim.AGENT: name})
        zone = parse_zone(await readers.reports.zone(principal.org))
        now = readers.clock()
        agent = await _found(readers.agents, principal.org, name, zone, now)
        return answer(
            detail_body(agent, now) | await _history(readers.agents, principal.org, name, zone, now)
        )

    return router


def require_no_project(principal: Principal) -> None:
    """Refuse a key that is bound to a project.

    Raises:
        Denied: Sums of agents and runs are not kept by project.
    """
    if principal.project:
        raise Denied("this key is bound to one project; /v1/costs and /v1/reports answer for it")


async def require_known(agents: AgentReader, org: Org, name: str) -> None:
    """Refuse the name of an agent that the organisation has not.

    Raises:
        NotFound: It has none of that name.
    """
    if not await agents.knows(org, name):
        raise unknown_agent()


def unknown_agent() -> NotFound:
    """Return the refusal of an agent's name that is not known."""
    return NotFound("no agent of that name is known; GET /v1/agents lists them", field="name")


def _range(params: AgentParams, zone: ZoneInfo) -> Span | None:
    """Return the range that is asked for, None where none is.

    Raises:
        InvalidInput: A text that is no date or time, or an empty range.
    """
    if not params.start and not params.end:
        return None
    starts_at = range_start(params.start, zone, field="start") if params.start else EVERYTHING.starts_at
    ends_at = range_end(params.end, zone, field="end") if params.end else EVERYTHING.ends_at
    if starts_at >= ends_at:
        raise InvalidInput("start must be before end", field="start")
    return Span(starts_at, ends_at)


def _encoded(page: AgentPage, now: int, about: Mapping[str, object]) -> bytes:
    """Return the list as JSON."""
    return _encode(
        {
            "agents": [agent_body(agent, now) for agent in page.agents],
            "total": page.total,
            "api_key_prefix": page.key_prefix,
            **about,
            "has_more": page.has_more,
            "next_cursor": page.agents[-1].name if page.has_more else None,
        }
    )


async def _found(agents: AgentReader, org: Org, name: str, zone: ZoneInfo, now: int) -> Agent:
    periods = periods_at(zone, now)
    page = await agents.agents(AgentQuery(org, now, (*periods, periods.today), only=name, limit=1))
    if not page.agents:
        raise unknown_agent()
    return page.agents[0]


async def _history(agents: AgentReader, org: Org, name: str, zone: ZoneInfo, now: int) -> dict[str, object]:
    """Return what an agent's models cost in thirty days, and what each of its last seven days did."""
    today = day_of(zone, now)
    first = day_begins_at(zone, today - timedelta(DEFAULT_DAYS - 1))
    pieces = slices(Granularity.DAY, zone, Span(first, day_begins_at(zone, today + timedelta(1))))
    found = await agents.history(org, name, [piece.span for piece in pieces])
    return history_body(found, pieces, HISTORY_DAYS) | {"timezone": zone.key}
