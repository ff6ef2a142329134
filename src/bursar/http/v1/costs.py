"""`GET /v1/costs`: what calls cost, grouped and filtered, in AI Cost Guard's vocabulary.

Field names and money as a JSON number are that product's; the filters, the groups beyond
its four, and the counts of unpriced requests are ours.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from bursar.analytics import query as ask
from bursar.analytics.ports import ReportReader
from bursar.analytics.query import DIMS_MAX, ROWS_MAX, Dim, Row
from bursar.analytics.slices import Granularity, Slice, slices
from bursar.core.errors import InvalidInput
from bursar.core.time import Clock, text_from_micros
from bursar.http.v1.report_query import (
    FilterParams,
    Range,
    answer,
    average,
    json_number,
    range_of,
    text,
)
from bursar.identity.keys import Scope
from bursar.ledger.rows import Measures
from bursar.web.guard import Guard
from bursar.web.principal import Principal

_CHOICES = [*Dim, *Granularity]


class CostParams(FilterParams):
    """The parameters of `GET /v1/costs`."""

    group_by: str = Field(
        default="model",
        alias="groupBy",
        max_length=256,
        description=f"Up to {DIMS_MAX}, comma-separated, at most one of them time: {', '.join(_CHOICES)}.",
    )
    project_id: str | None = text("Project, by name or id.", alias="projectId")
    limit: int = Field(default=ROWS_MAX, ge=1, le=ROWS_MAX, description="Most rows.")

    def named(self) -> dict[Dim, str]:
        """Return the filters that are set; `projectId` is another name of `project`."""
        return super().named() | ({Dim.PROJECT: self.project_id} if self.project_id else {})


class Grouping(NamedTuple):
    """What `groupBy` names: dimensions, and at most one piece of time."""

    dims: tuple[Dim, ...]
    granularity: Granularity | None


def costs_router(guard: Guard, reports: ReportReader, clock: Clock) -> APIRouter:
    """Return the route; `clock` decides which day is today when no range is given."""
    router = APIRouter(tags=["reports"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("/v1/costs", operation_id="costs")
    async def costs(principal: Reader, params: Annotated[CostParams, Query()]) -> Response:
        """Give requests, tokens and cost of each group, the most expensive first."""
        grouping = grouping_of(params.group_by)
        asked = range_of(params, await reports.zone(principal.org), clock())
        pieces = slices(grouping.granularity, asked.zone, asked.span) if grouping.granularity else ()
        report = await reports.report(
            ask.Query(
                principal.org,
                asked.span,
                grouping.dims,
                params.filters(principal),
                tuple(piece.span for piece in pieces),
                params.limit,
            )
        )
        rows = [_row(row, grouping, pieces) for row in report.rows]
        total = _sums(report.total)
        return answer({"data": rows, "meta": _meta(asked, grouping, total, has_more=report.has_more)})

    return router


def grouping_of(listed: str) -> Grouping:
    """Return what a `groupBy` text asks for; empty text groups by model.

    Raises:
        InvalidInput: An unknown name, too many, or two pieces of time.
    """
    names = list(dict.fromkeys(name.strip().lower() for name in listed.split(",") if name.strip())) or [
        "model"
    ]
    unknown = [name for name in names if name not in _CHOICES]
    if unknown:
        raise InvalidInput(f"groupBy must name one of {', '.join(_CHOICES)}", field="groupBy")
    times = [Granularity(name) for name in names if name in set(Granularity)]
    dims = tuple(Dim(name) for name in names if name in set(Dim))
    if len(times) > 1:
        raise InvalidInput("groupBy takes one of hour, day, week and month", field="groupBy")
    if len(dims) > DIMS_MAX:
        raise InvalidInput(f"groupBy takes at most {DIMS_MAX} dimensions", field="groupBy")
    return Grouping(dims, times[0] if times else None)


def _row(row: Row, grouping: Grouping, pieces: Sequence[Slice]) -> dict[str, object]:
    """Return one line: its slice and names, then its sums."""
    fields: dict[str, object] = {}
    if grouping.granularity is not None:
        fields[grouping.granularity.value] = pieces[row.piece].name
    fields.update(row.labels)
    if Dim.PROJECT in grouping.dims:
        fields["projectId"] = row.labels["project"]
    return fields | _sums(row.measures)


def _sums(measures: Measures) -> dict[str, object]:
    """Return the sums; cached tokens are within `inputTokens`, reasoning within `outputTokens`."""
    writes = measures.cache_write_5m_tokens + measures.cache_write_1h_tokens
    return {
        "requests": measures.requests,
        "inputTokens": measures.input_tokens + measures.cache_read_tokens + writes,
        "outputTokens": measures.output_tokens + measures.reasoning_tokens,
        "totalCost": json_number(measures.cost_nusd),
        "avgLatencyMs": average(measures.duration_ms, measures.requests) or 0,
        "unpricedRequests": measures.unpriced_requests,
        "unpricedTokens": measures.unpriced_tokens,
        "errors": measures.errors,
        "cacheReadTokens": measures.cache_read_tokens,
        "cacheWriteTokens": writes,
        "reasoningTokens": measures.reasoning_tokens,
        "mediaTokens": measures.media_tokens,
        "webSearches": measures.web_searches,
    }


def _meta(asked: Range, grouping: Grouping, total: dict[str, object], *, has_more: bool) -> dict[str, object]:
    """Return what was asked, in exact instants as well, and the total of every row."""
    return {
        "from": asked.from_text,
        "to": asked.to_text,
        "startsAt": text_from_micros(asked.span.starts_at),
        "endsAt": text_from_micros(asked.span.ends_at),
        "zone": asked.zone.key,
        "groupBy": [*chain([grouping.granularity] if grouping.granularity else [], grouping.dims)],
        "currency": "USD",
        "hasMore": has_more,
        "total": total,
    }
