"""Sums over events: one statement an answer, whatever the plan.

The statement adds up to three parts, each grouped by itself: whole hours of a roll-up,
and for cut hours the event rows and the entries of corrections. Slices come as a JSON
array that drives the loop, so that each is one seek in a clustered key.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from bursar.analytics.plan import Plan, RollUp, hourly, plan
from bursar.analytics.ports import ReportReader
from bursar.analytics.query import NOTHING, Dim, Query, Report, Row
from bursar.core.errors import AmountOverflow, NotFound
from bursar.core.ids import Org
from bursar.ledger.rows import MEASURES, Measures
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.names import PROVIDER, Conditions, conditions, label_columns
from bursar.storage.sql.ports import Cell, Connection, Parameters, Readers

_ZONE = "SELECT zone FROM organisation WHERE org = ?"
_ROLLUP_TABLES = {
    RollUp.AGENT: "rollup_agent",
    RollUp.PROJECT: "rollup_project",
    RollUp.FEATURE: "rollup_feature",
    RollUp.USER: "rollup_user",
}
_COLUMNS = {dim: dim.value for dim in Dim} | {Dim.PROVIDER: "model"}
# Materialised, or SQLite would read the JSON anew for every row that it joins.
_SPANS = "{pieces} (piece, starts_at, ends_at) AS MATERIALIZED ({rows})"
_PIECES = "span.piece AS piece{keys}, {sums} FROM {rows} GROUP BY span.piece{names}"
_IN_PIECE = "r.org = :org AND r.{time} >= span.starts_at AND r.{time} < span.ends_at{tests}"
# Slices that are one hour each, side by side: their order is the key's, so nothing is sorted.
_HOURS = """(r.hour - :first) / 3600000000 AS piece{keys}, {sums}
    FROM {table} AS r WHERE r.org = :org AND r.hour >= :first AND r.hour < :end{tests}
    GROUP BY r.hour{names}"""
_TOKENS = """(r.input_tokens + r.output_tokens + r.reasoning_tokens + r.cache_read_tokens
    + r.cache_write_5m_tokens + r.cache_write_1h_tokens + r.media_tokens)"""
_OF_ENTRY = {
    "requests": "1",
    "errors": "r.is_error",
    "unpriced_requests": "CASE WHEN r.cost_nusd IS NULL THEN 1 ELSE 0 END",
    "unpriced_tokens": f"CASE WHEN r.cost_nusd IS NULL THEN {_TOKENS} ELSE 0 END",
    "cost_nusd": "coalesce(r.cost_nusd, 0)",
}
_ROLLUP = {name: f"r.{name}" for name in MEASURES}
_EVENT = _ROLLUP | _OF_ENTRY
_CORRECTION = {name: f"r.sign * ({value})" for name, value in _EVENT.items()}


class SqlReports(ReportReader):
    """`analytics.ports.ReportReader` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def zone(self, org: Org) -> str:
        """Return the organisation's zone."""
        return await self._readers.run_short(org, partial(_zone, org=org))

    async def report(self, query: Query) -> Report:
        """Return the rows and the total of `query`, read together."""
        return await self._readers.run(query.org, partial(_report, query=query))


def _zone(connection: Connection, org: Org) -> str:
    row = connection.execute(_ZONE, (org,)).fetchone()
    if row is None:
        raise NotFound("no such organisation")
    return str(row[0])


def _report(connection: Connection, query: Query) -> Report:
    """Return the rows of a page; the total is summed anew only when they are not all of it."""
    tests = conditions(connection, query.org, query.filters)
    if tests is None:
        return Report([], NOTHING, has_more=False)
    rows, has_more = _rows(connection, query, tests)
    if has_more or query.offset:
        whole = query._replace(dims=(), slices=(), limit=1, offset=0)
        return Report(rows, _total(_rows(connection, whole, tests)[0]), has_more)
    return Report(rows, _total(rows), has_more)


def _total(rows: list[Row]) -> Measures:
    """Return the sum of all rows, column by column: far quicker than row by row."""
    columns = zip(*(row.measures for row in rows), strict=True)
    return Measures._make(map(sum, columns)) if rows else NOTHING


def _rows(connection: Connection, query: Query, tests: Conditions) -> tuple[list[Row], bool]:
    """Return the page's rows, and whether more follow."""
    dims = [dim for dim in query.dims if dim is not Dim.PROVIDER or Dim.MODEL not in query.dims]
    chosen = plan(query, within=tests.within)
    parameters = {
        "org": query.org,
        "whole": json.dumps(chosen.whole),
        "cut": json.dumps(chosen.cut),
        "first": chosen.whole[0].starts_at if chosen.whole else 0,
        "end": chosen.whole[-1].ends_at if chosen.whole else 0,
        "most": query.limit + 1,
        "skipped": query.offset,
        **tests.parameters,
    }
    found = _fetch(connection, chosen, dims, tests, parameters)
    has_more = len(found) > query.limit
    return found[: query.limit], has_more


def _fetch(
    connection: Connection, chosen: Plan, dims: list[Dim], tests: Conditions, parameters: Parameters
) -> list[Row]:
    """Return the rows of the plan; sums beyond 64 bits are added anew in two halves."""
    dialect = connection.dialect
    labels: dict[str, str] = {}
    for number, dim in enumerate(dims):
        labels |= label_columns(dialect, dim, f"key{number}")
    sql = partial(_statement, dialect, chosen, dims, tests.sql(dialect, "r"))
    try:
        rows = connection.listed(sql(wide=False), ["piece", *labels.values(), *MEASURES], parameters)
    except AmountOverflow:
        pass
    else:
        return [_row(row, labels, row[1 + len(labels) :]) for row in rows]
    halves = [name + half for name in MEASURES for half in ("", "_low")]
    rows = connection.listed(sql(wide=True), ["piece", *labels.values(), *halves], parameters)
    return [_row(row, labels, _joined(row[1 + len(labels) :])) for row in rows]


def _row(row: tuple[Cell, ...], labels: Iterable[str], measures: Iterable[Cell]) -> Row:
    """Return a row by the order of its columns: slice, names, measures."""
    named = dict(zip(labels, map(_text, row[1:]), strict=False))
    return Row(int(row[0] or 0), named, Measures._make(map(_number, measures)))


def _text(cell: Cell) -> str | None:
    return None if cell is None else str(cell)


def _number(cell: Cell) -> int:
    return int(cell or 0)


def _joined(halves: Sequence[Cell]) -> list[Cell]:
    """Return sums from their upper and lower halves, which alternate."""
    pairs = zip(map(_number, halves[::2]), map(_number, halves[1::2]), strict=True)
    return [(high << 32) + low for high, low in pairs]


def _statement(dialect: Dialect, chosen: Plan, dims: list[Dim], tests: str, *, wide: bool) -> str:
    """Return the statement that adds the plan's parts.

    `wide` sums the upper and the lower 32 bits apart, which takes twice as long and cannot
    overflow; an engine whose sums have no bounds is never asked for it.
    """
    parts: list[str] = []
    if chosen.rollup is not None:
        table = _ROLLUP_TABLES[chosen.rollup]
        sums = _sums(_ROLLUP, wide=wide)
        if hourly(chosen.whole):
            parts.append(_filled(_HOURS, dims, sums=sums, table=table, tests=tests))
        else:
            condition = _IN_PIECE.format(time="hour", tests=tests)
            rows = dialect.sought("whole AS span", table, condition)
            parts.append(_filled(_PIECES, dims, sums=sums, rows=rows))
    if chosen.cut or not parts:
        condition = _IN_PIECE.format(time="occurred_at", tests=tests)
        for table, values in (("event", _EVENT), ("entry", _CORRECTION)):
            rows = dialect.sought("cut AS span", table, condition)
            parts.append(_filled(_PIECES, dims, sums=_sums(values, wide=wide), rows=rows))
    keys = "".join(f", {_key(dim, n)} AS key{n}" for n, dim in enumerate(dims))
    names = "".join(f", key{n}" for n in range(len(dims)))
    order = "".join(f", key{n} NULLS FIRST" for n in range(len(dims)))
    union = " UNION ALL ".join(parts)
    some = "(SUM(requests) << 32) + SUM(requests_low)" if wide else "SUM(requests)"
    cost = "cost_nusd * 4294967296.0 + cost_nusd_low" if wide else "cost_nusd"
    spans = ", ".join(
        _SPANS.format(pieces=pieces, rows=dialect.tuples(f":{pieces}", "piece", "starts_at", "ends_at"))
        for pieces in ("whole", "cut")
    )
    return f"""WITH {spans} SELECT piece{keys}, {_totals(wide=wide)} FROM ({union}) AS part
        GROUP BY piece{names} HAVING {some} > 0
        ORDER BY piece, {cost} DESC, requests DESC{order} LIMIT :most OFFSET :skipped"""


def _sums(values: Mapping[str, str], *, wide: bool) -> str:
    """Return the sums of one part's measures."""
    if wide:
        return ", ".join(
            f"SUM(({value}) >> 32) AS {name}, SUM(({value}) & 4294967295) AS {name}_low"
            for name, value in values.items()
        )
    return ", ".join(f"SUM({value}) AS {name}" for name, value in values.items())


def _totals(*, wide: bool) -> str:
    """Return the sums of the parts' sums."""
    names = [name + half for name in MEASURES for half in (("", "_low") if wide else ("",))]
    return ", ".join(f"SUM({name}) AS {name}" for name in names)


def _filled(template: str, dims: list[Dim], **blanks: str) -> str:
    """Return a part's statement from its template."""
    keys = "".join(f", r.{_COLUMNS[dim]} AS d{n}" for n, dim in enumerate(dims))
    names = "".join(f", d{n}" for n in range(len(dims)))
    return "SELECT " + template.format(keys=keys, names=names, **blanks)


def _key(dim: Dim, number: int) -> str:
    """Return what the parts' sums are grouped by: the number, for a provider its name."""
    if dim is Dim.PROVIDER:
        return f"(SELECT {PROVIDER} FROM model WHERE org = :org AND model = d{number})"
    return f"d{number}"
