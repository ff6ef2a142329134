"""`/v1/runs` and `/v1/agents/{name}/runs`: calls that share a run id, in the AgentKavach vocabulary.

A run id is any text that callers choose; in a path it is URL-escaped. Not here: budgets per run (`budgets`).
"""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from bursar.analytics.agents import AgentReader, Use
from bursar.analytics.events import EventQuery
from bursar.analytics.ports import EventReader
from bursar.analytics.query import NOT_GIVEN, Dim
from bursar.analytics.runs import Run, RunPlace, RunReader, RunStatus
from bursar.capture import checks
from bursar.core.errors import NotFound
from bursar.core.time import Clock, text_from_micros
from bursar.http.v1.agent_answers import event_body
from bursar.http.v1.agents import EVERYTHING, Name, PageParams, require_known, require_no_project
from bursar.http.v1.cursors import cursor_from, place_from
from bursar.http.v1.events_read import cursor_of, place_of
from bursar.http.v1.report_query import answer, bound_filters, json_number
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

RunId = Annotated[
    str, Path(min_length=1, max_length=checks.NAME_LENGTH_MAX, description="The caller's own run id.")
]


class Readers(NamedTuple):
    """What the routes read from; `clock` gives microseconds UTC."""

    agents: AgentReader
    runs: RunReader
    events: EventReader
    clock: Clock


def runs_router(guard: Guard, readers: Readers) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["runs"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("/agents/{name:path}/runs", operation_id="agents_runs")
    async def list_runs(principal: Reader, name: Name, params: Annotated[PageParams, Query()]) -> Response:
        """List an agent's runs, those that were active last first."""
        require_no_project(principal)
        bound_filters(principal, {Dim.AGENT: name})
        await require_known(readers.agents, principal.org, name)
        before = _run_place_of(params.cursor)
        found = await readers.runs.runs(principal.org, name, before=before, most=params.limit + 1)
        page = found[: params.limit]
        has_more = len(found) > params.limit
        now = readers.clock()
        runs = [_body(run, now) for run in page]
        following = _run_cursor_of(page[-1].place) if has_more else None
        return answer(
            {"agent_name": name, "runs": runs, "data": runs, "has_more": has_more, "next_cursor": following}
        )

    @router.get("/runs/{run_id:path}/events", operation_id="runs_events")
    async def list_events(
        principal: Reader, run_id: RunId, params: Annotated[PageParams, Query()]
    ) -> Response:
        """List the calls of a run, newest first."""
        run = await _found(readers.runs, principal, run_id)
        filters = {Dim.RUN: run.run_id} | bound_filters(principal, {})
        query = EventQuery(principal.org, EVERYTHING, filters, place_of(params.cursor), params.limit)
        page = await readers.events.page(query)
        events = [event_body(event) for event in page.events]
        following = cursor_of(page.events[-1].row) if page.has_more else None
        shown = {"events": events, "data": events, "has_more": page.has_more, "next_cursor": following}
        return answer({"run_id": run.run_id, **shown})

    @router.get("/runs/{run_id:path}", operation_id="runs_get")
    async def get_run(principal: Reader, run_id: RunId) -> Response:
        """Show a run: whether it still goes on, what it cost, and what all below it did."""
        return answer(_body(await _found(readers.runs, principal, run_id), readers.clock()))

    return router


async def _found(runs: RunReader, principal: Principal, run_id: str) -> Run:
    """Return the run that an id means.

    Raises:
        Denied: The key is bound to a project, of which runs keep no sums.
        NotFound: There is none, or it is another agent's than the key's.
    """
    require_no_project(principal)
    run = None if run_id == NOT_GIVEN else await runs.run(principal.org, run_id)
    if run is None or (principal.agent and run.agent != principal.agent):
        raise NotFound("no call of that run is known; GET /v1/agents/{name}/runs lists runs", field="run_id")
    return run


def _body(run: Run, now: int) -> dict[str, object]:
    status = run.status(now)
    last_at = text_from_micros(run.place.last_at)
    return {
        "run_id": run.run_id,
        "agent_name": run.agent,
        "status": status.value,
        "started_at": text_from_micros(run.first_at),
        "last_event_at": last_at,
        "ended_at": last_at if status is RunStatus.COMPLETED else None,
        **_used(run.used, "total_"),
        "errors": run.errors,
        "parent_run_id": run.parent_id,
        "runs_below": run.runs_below,
        **_used(run.tree, "tree_"),
    }


def _used(use: Use, prefix: str) -> dict[str, object]:
    return {
        f"{prefix}events": use.events,
        f"{prefix}cost": json_number(use.cost_nusd),
        f"{prefix}input_tokens": use.input_tokens,
        f"{prefix}output_tokens": use.output_tokens,
        f"{prefix}duration_ms": use.duration_ms,
        f"{prefix}unpriced_events": use.unpriced,
    }


def _run_cursor_of(place: RunPlace) -> str:
    return cursor_from(place.last_at, place.run)


def _run_place_of(cursor: str | None) -> RunPlace | None:
    """Return the run behind which a page begins.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    return RunPlace(*place_from(cursor)) if cursor else None
