"""Single events: pages of them, newest first, and one with its history.

There is no index of events by agent. An agent's (or a project's, or a model's) events are
found by the roll-up: it says in which hours there are any, how many, and between which
instants, so a page costs one seek an hour and a scan of just those instants.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import msgspec

from bursar.analytics.events import Event, EventHistory, EventPage, EventQuery, Place, Step
from bursar.analytics.ports import EventReader
from bursar.analytics.query import Dim, Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_HOUR
from bursar.core.usage import RateCard, RateLine, ServiceTier
from bursar.ledger.rows import ENTRY_COLUMNS, EntryRow
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.names import Condition, Conditions, conditions, label_columns
from bursar.storage.sql.ports import Cell, Connection, Parameters, Readers

_COLUMNS = ", ".join(f"r.{name}" for name in ENTRY_COLUMNS)
_BLOBS = ("key", "run", "session", "hold")
_FIRST_KEY = b""
_LABELS = (Dim.AGENT, Dim.MODEL, Dim.PROJECT, Dim.FEATURE, Dim.USER, Dim.RUN)
_SPANS = {Dim.AGENT: "rollup_agent", Dim.PROJECT: "rollup_project", Dim.MODEL: "rollup_project"}
"""Which roll-up leads to the events of a filter; the first that applies is the most selective."""
_REVISION = "(SELECT revision FROM event_key AS k WHERE k.org = :org AND k.key = r.key)"

# An event that was corrected stands where its last entry says; its own row is history.
_EVENT_STANDS = "NOT EXISTS (SELECT 1 FROM entry AS c WHERE c.org = r.org AND c.key = r.key)"
_ENTRY_STANDS = """r.sign = 1
    AND NOT EXISTS (SELECT 1 FROM entry AS c WHERE c.org = r.org AND c.key = r.key AND c.seq > r.seq)"""
_IN_RANGE = """SELECT {columns} FROM {table} AS r
    WHERE r.org = :org AND r.occurred_at >= :starts_at AND r.occurred_at < :ends_at
        AND (r.occurred_at, r.key) < (:before_at, :before_key) AND {stands}{tests}
    ORDER BY r.occurred_at DESC, r.key DESC LIMIT :most"""
# The + keeps the page's bound away from the index, where it would displace the span's end.
_IN_SPANS = """WITH span (starts_at, ends_at) AS MATERIALIZED ({spans})
    SELECT {columns} FROM {rows} WHERE {stands} ORDER BY r.occurred_at DESC, r.key DESC LIMIT :most"""
_IN_SPAN = """r.org = :org AND r.occurred_at >= span.starts_at AND r.occurred_at < span.ends_at
        AND (+r.occurred_at, r.key) < (:before_at, :before_key){tests}"""
# Every hour that the organisation has a row in, so that the walk knows how far it came.
_HOURS_BACK = """WITH RECURSIVE hours (hour, place) AS (
        SELECT max(hour), 1 FROM {table} WHERE org = :org AND hour < :ends_at
        UNION ALL
        SELECT (SELECT max(hour) FROM {table} WHERE org = :org AND hour < hours.hour), place + 1
        FROM hours WHERE hours.hour > :starts_at AND place < :most)
    SELECT hours.hour, min(r.first_at) AS first_at, max(r.last_at) AS last_at,
        coalesce(sum(r.requests), 0) AS requests
    FROM {rows} WHERE hours.hour IS NOT NULL GROUP BY hours.hour ORDER BY hours.hour DESC"""
_HOURS_AT_FIRST = 64
_HOURS_MORE = 4
_HOURS_MOST = 1_024
"""How many hours one statement walks back: few for a busy agent, then more; 2 µs each."""

_KEY = "SELECT occurred_at, revision FROM event_key WHERE org = ? AND key = ?"
_EVENT = f"SELECT {_COLUMNS} FROM event AS r WHERE org = ? AND occurred_at = ? AND key = ?"
# Named, as the planner would rather walk all entries of the organisation by number.
_ENTRIES = f"""SELECT seq, sign, revision, reason, {_COLUMNS} FROM entry AS r INDEXED BY entry_by_key
    WHERE org = ? AND key = ? ORDER BY seq"""
_CARD = """SELECT digest, provider, model, service_tier, lines, origin FROM rate_card
    WHERE org = ? AND card = ?"""
_PROMPT = "SELECT text FROM prompt WHERE org = ? AND occurred_at = ? AND key = ?"
_decode_lines = msgspec.json.Decoder(tuple[RateLine, ...]).decode


class SqlEvents(EventReader):
    """`analytics.ports.EventReader` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def page(self, query: EventQuery) -> EventPage:
        """Return the newest events that pass."""
        return await self._readers.run(query.org, partial(_page, query=query))

    async def history(self, org: Org, key: bytes) -> EventHistory | None:
        """Return one event and all that explains it."""
        return await self._readers.run_short(org, partial(_history, org=org, key=key))


@cache
def _names(dialect: Dialect) -> dict[str, str]:
    """Return label → SQL of an event's names."""
    return {
        label: sql for dim in _LABELS for label, sql in label_columns(dialect, dim, f"r.{dim.value}").items()
    }


@cache
def _shown(dialect: Dialect) -> list[str]:
    """Return the columns of an event as `_event` takes them, bytes as their digits."""
    return [
        *(
            f"nullif({dialect.hexadecimal(f'r.{name}')}, '')" if name in _BLOBS else f"r.{name}"
            for name in ENTRY_COLUMNS
        ),
        _REVISION,
        *_names(dialect).values(),
    ]


class _Hour(NamedTuple):
    """An hour of the organisation: between which instants, and how many events may pass."""

    hour: int
    first_at: int
    last_at: int
    requests: int


def _page(connection: Connection, query: EventQuery) -> EventPage:
    tests = conditions(connection, query.org, query.filters)
    if tests is None:
        return EventPage([], has_more=False)
    span = _bounds(query, tests.within)
    leading = next((dim for dim in _SPANS if dim in query.filters), None)
    if leading is None or tests.within is not None:
        bounds = {"starts_at": span.starts_at, "ends_at": span.ends_at}
        events = _standing(connection, _IN_RANGE, query, tests, bounds)
    else:
        events = _by_hours(connection, query, span, tests, _SPANS[leading])
    return EventPage(events[: query.limit], len(events) > query.limit)


def _bounds(query: EventQuery, within: Span | None) -> Span:
    """Return the span that holds all events which can pass."""
    starts_at, ends_at = query.span
    if query.before is not None:
        ends_at = min(ends_at, query.before.occurred_at + 1)
    if within is not None:
        starts_at, ends_at = max(starts_at, within.starts_at), min(ends_at, within.ends_at)
    return Span(starts_at, ends_at)


def _by_hours(
    connection: Connection, query: EventQuery, span: Span, tests: Conditions, table: str
) -> list[Event]:
    """Return the page's events and one more, led by the hours in which the roll-up has any.

    Filters that the roll-up lacks make its counts too high; then the next hours are read,
    twice as many each time.
    """
    events: list[Event] = []
    missing = query.limit + 1
    hours = _hours_back(connection, query.org, span, tests, table)
    while len(events) <= query.limit:
        spans = _take(hours, span, missing)
        if not spans:
            break
        events += _standing(connection, _IN_SPANS, query, tests, {"spans": json.dumps(spans)})
        missing *= 2
    return events[: query.limit + 1]


def _take(hours: Iterator[_Hour], span: Span, wanted: int) -> list[Span]:
    """Return the spans of the next hours until they hold `wanted` events, or no more come."""
    spans: list[Span] = []
    found = 0
    for hour in hours:
        spans.append(Span(max(hour.first_at, span.starts_at), min(hour.last_at + 1, span.ends_at)))
        # An hour that the page's bounds cut holds an unknown share of its events.
        if span.starts_at <= hour.first_at and hour.last_at < span.ends_at - 1:
            found += hour.requests
        if found >= wanted:
            break
    return spans


def _hours_back(
    connection: Connection, org: Org, span: Span, tests: Conditions, table: str
) -> Iterator[_Hour]:
    """Give the hours with events that may pass, the latest first."""
    held = {"rollup_agent": {"agent", "model"}, "rollup_project": {"project", "model"}}[table]
    usable = Conditions([test for test in tests.tests if test.column in held], None)
    dialect = connection.dialect
    condition = f"r.org = :org AND r.hour = hours.hour{usable.sql(dialect, 'r')}"
    rows_of_hours = dialect.sought("hours", table, condition, is_outer=True)
    sql = _HOURS_BACK.format(table=table, rows=rows_of_hours)
    starts_at = span.starts_at - span.starts_at % MICROS_PER_HOUR
    bounds = {"org": org, "starts_at": starts_at, "ends_at": span.ends_at, **usable.parameters}
    most = _HOURS_AT_FIRST
    while True:
        rows = connection.listed(sql, _Hour._fields, {**bounds, "most": most})
        hours = list(map(_Hour._make, rows))
        yield from (hour for hour in hours if hour.requests)
        if len(hours) < most:
            return
        bounds["ends_at"] = hours[-1].hour
        most = min(most * _HOURS_MORE, _HOURS_MOST)


def _standing(
    connection: Connection, template: str, query: EventQuery, tests: Conditions, bounds: Parameters
) -> list[Event]:
    """Return events as they stand, newest first, from the event rows and from corrections."""
    before = query.before or Place(query.span.ends_at, _FIRST_KEY)
    parameters = {
        "org": query.org,
        "before_at": before.occurred_at,
        "before_key": before.key,
        "most": query.limit + 1,
        **tests.parameters,
        **bounds,
    }
    dialect = connection.dialect
    blanks = {
        "columns": _COLUMNS,
        "tests": tests.sql(dialect, "r"),
        "spans": dialect.tuples(":spans", "starts_at", "ends_at"),
    }
    in_span = _IN_SPAN.format(tests=blanks["tests"])
    event = partial(_event, list(_names(dialect)))
    events: list[Event] = []
    for table, stands in (("event", _EVENT_STANDS), ("entry", _ENTRY_STANDS)):
        rows = dialect.sought("span", table, in_span)
        sql = template.format(table=table, stands=stands, rows=rows, **blanks)
        events += map(event, connection.listed(sql, _shown(dialect), parameters))
    events.sort(key=lambda event: (event.row.occurred_at, event.row.key), reverse=True)
    return events[: query.limit + 1]


def _event(labels: Sequence[str], cells: tuple[Cell, ...]) -> Event:
    """Return an event from a line of `_shown`."""
    width = len(ENTRY_COLUMNS)
    row = EntryRow._make(
        bytes.fromhex(cell) if name in _BLOBS and isinstance(cell, str) else cell
        for name, cell in zip(ENTRY_COLUMNS, cells, strict=False)
    )
    names = (None if cell is None else str(cell) for cell in cells[width + 1 :])
    return Event(row, int(cells[width] or 0), dict(zip(labels, names, strict=True)))


def _history(connection: Connection, org: Org, key: bytes) -> EventHistory | None:
    known = connection.execute(_KEY, (org, key)).fetchone()
    first = None if known is None else connection.execute(_EVENT, (org, known[0], key)).fetchone()
    if first is None:
        return None
    steps = [Step(None, 1, 0, "event", EntryRow._make(first))]
    for seq, sign, revision, reason, *row in connection.execute(_ENTRIES, (org, key)):
        steps.append(Step(seq, sign, revision, reason, EntryRow._make(row)))
    standing = next(step.row for step in reversed(steps) if step.sign == 1)
    there = Span(standing.occurred_at, standing.occurred_at + 1)
    one = Conditions([Condition("key", key)], None)
    bounds = {"starts_at": there.starts_at, "ends_at": there.ends_at}
    event = _standing(connection, _IN_RANGE, EventQuery(org, there, limit=1), one, bounds)[0]
    prompt = connection.execute(_PROMPT, (org, known[0], key)).fetchone()
    return EventHistory(event, _card(connection, org, standing.card), steps, prompt[0] if prompt else None)


def _card(connection: Connection, org: Org, card: int) -> RateCard | None:
    row = connection.execute(_CARD, (org, card)).fetchone()
    if row is None:
        return None
    digest, provider, model, tier, lines, origin = row
    return RateCard(digest, provider, model, ServiceTier(tier), _decode_lines(lines), origin)
