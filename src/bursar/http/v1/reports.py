"""`/v1/reports/{series,top,breakdown}`: sums for charts and tables, in Bursar's vocabulary.

Money is a decimal string, token kinds stand apart, and every answer carries its total.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from bursar.analytics import query as ask
from bursar.analytics.ports import ReportReader
from bursar.analytics.query import DIMS_MAX, POINTS_MAX, Dim, Report
from bursar.analytics.series import Point, series
from bursar.analytics.slices import Granularity, Slice, slices
from bursar.core.time import Clock, text_from_micros
from bursar.http.v1.report_query import (
    FilterParams,
    Range,
    answer,
    dims_of,
    offset_of,
    range_of,
    sums,
    text,
)
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

LINES_MAX = 50
PAGE_MAX = 1_000
_NAMES = ", ".join(Dim)


class SeriesParams(FilterParams):
    """The parameters of `GET /v1/reports/series`."""

    granularity: Granularity = Field(default=Granularity.DAY, description="How long a slice is.")
    by: str | None = text(f"One line for each: {_NAMES}.")
    limit: int = Field(default=10, ge=1, le=LINES_MAX, description="Lines shown; the others make one rest.")


class TopParams(FilterParams):
    """The parameters of `GET /v1/reports/top`."""

    by: str = Field(default="agent", max_length=256, description=f"Whose: {_NAMES}.")
    limit: int = Field(default=10, ge=1, le=PAGE_MAX, description="Most rows.")
    cursor: str | None = text("`next_cursor` of the page before.")


class BreakdownParams(FilterParams):
    """The parameters of `GET /v1/reports/breakdown`."""

    by: str = Field(
        default="model", max_length=256, description=f"One to {DIMS_MAX}, comma-separated: {_NAMES}."
    )
    limit: int = Field(default=100, ge=1, le=PAGE_MAX, description="Most rows.")
    cursor: str | None = text("`next_cursor` of the page before.")


def reports_router(guard: Guard, reports: ReportReader, clock: Clock) -> APIRouter:
    """Return the routes; `clock` decides which day is today when no range is given."""
    router = APIRouter(prefix="/v1/reports", tags=["reports"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("/series", operation_id="reports_series")
    async def read_series(principal: Reader, params: Annotated[SeriesParams, Query()]) -> Response:
        """Give sums by hour, day, week or month without holes, oldest first."""
        asked = range_of(params, await reports.zone(principal.org), clock())
        dims = dims_of(params.by, field="by", most=1) if params.by else ()
        pieces = slices(params.granularity, asked.zone, asked.span)
        spans = tuple(piece.span for piece in pieces)
        filters = params.filters(principal)
        report = await reports.report(
            ask.Query(principal.org, asked.span, dims, filters, spans, limit=POINTS_MAX)
        )
        points = series(report, pieces=len(pieces), dim=dims[0] if dims else None, shown=params.limit)
        data = [_point(point, pieces[point.piece]) for point in points]
        return answer(_body(data, report, asked) | {"granularity": params.granularity.value, "by": dims})

    @router.get("/top", operation_id="reports_top")
    async def read_top(principal: Reader, params: Annotated[TopParams, Query()]) -> Response:
        """Give the most expensive agents, models, users or whatever `by` names."""
        return await ranked(principal, params, dims_of(params.by, field="by", most=1))

    @router.get("/breakdown", operation_id="reports_breakdown")
    async def read_breakdown(principal: Reader, params: Annotated[BreakdownParams, Query()]) -> Response:
        """Give sums of one to three dimensions together, the most expensive first."""
        return await ranked(principal, params, dims_of(params.by, field="by"))

    async def ranked(
        principal: Principal, params: TopParams | BreakdownParams, dims: tuple[Dim, ...]
    ) -> Response:
        asked = range_of(params, await reports.zone(principal.org), clock())
        query = ask.Query(
            principal.org,
            asked.span,
            dims,
            params.filters(principal),
            limit=params.limit,
            offset=offset_of(params.cursor),
        )
        report = await reports.report(query)
        data = [{**row.labels, **sums(row.measures)} for row in report.rows]
        return answer(_body(data, report, asked, offset=query.offset) | {"by": dims})

    return router


def _point(point: Point, piece: Slice) -> dict[str, object]:
    """Return one point: its slice, its group if there is one, its sums."""
    when = {
        "period": piece.name,
        "starts_at": text_from_micros(piece.span.starts_at),
        "ends_at": text_from_micros(piece.span.ends_at),
    }
    return {**when, **point.labels, **sums(point.measures)}


def _body(
    data: list[dict[str, object]], report: Report, asked: Range, *, offset: int = 0
) -> dict[str, object]:
    """Return the envelope: rows, whether more follow, the total of all, what was asked."""
    return {
        "data": data,
        "has_more": report.has_more,
        "next_cursor": str(offset + len(data)) if report.has_more else None,
        "total": sums(report.total),
        "from": asked.from_text,
        "to": asked.to_text,
        "starts_at": text_from_micros(asked.span.starts_at),
        "ends_at": text_from_micros(asked.span.ends_at),
        "zone": asked.zone.key,
        "currency": "USD",
    }
