"""What filled a budget's window at a moment, read from postings and holds; every read is bounded.

`enforcement.explanation.Explainer` on read-only connections. Postings lie by source and are found
by their time; a window's own are told by the budget's id in their packed parts, which the engine
looks for itself. Holds lie by id, which is nearly their time: where a time begins among them
is found by halving. Not here: the present state of windows and holds (`budget_lists`).
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from bursar.budgets.book import Effect
from bursar.budgets.budget import Budget
from bursar.budgets.hold import HoldState, Leg
from bursar.budgets.matching import Call
from bursar.budgets.window import Track, Window, WindowKey
from bursar.core.errors import InvalidInput
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.core.time import MICROS_PER_SECOND
from bursar.enforcement.explanation import (
    HOLDS_LISTED_MAX,
    Explainer,
    ExplainQuery,
    Explanation,
    Holding,
    Posted,
    SpendPlace,
)
from bursar.storage.sql import budget_lists
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.ports import Connection, Readers, Rows
from bursar.storage.sql.walks import TOGETHER_PARAMETERS, by_ids, walked

PAGE_SCAN_MAX = 20_000
"""Postings read for one page of spend: some 20 ms where none of them is of the window."""

SUM_SCAN_MAX = 200_000
"""Postings read to work out what was settled at a past moment: some 200 ms."""

HOLDS_SCAN_MAX = 50_000
"""Holds looked at on each of the two ways to them."""

_ID_SPARE = 60_000
"""Ids are given before their commit, by another clock: so many milliseconds are added on both sides."""
_ID_NEAR = 1_000
"""Mostly they are nearer than that."""
_ID_BITS = 48
_NEWEST = b"\xff" * 16

_WINDOW = f"SELECT {rows.WINDOW_COLUMNS} FROM budget_window WHERE org = ? AND budget = ? AND member = ?"
_BEFORE = f"{_WINDOW} AND starts_at <= ? ORDER BY starts_at DESC LIMIT 1"
_AFTER = f"{_WINDOW} AND starts_at > ? ORDER BY starts_at LIMIT 1"
_LAST_DECIDED = "SELECT last_at FROM decision_clock WHERE org = ?"
_BETWEEN = "FROM posting INDEXED BY posting_by_time WHERE org = ?1 AND at > ?2 AND at <= ?3"
_COUNT = f"SELECT count(*) FROM (SELECT 1 {_BETWEEN} LIMIT ?4) AS near"
_PARTS = f"SELECT parts {_BETWEEN} AND {{has_budget}}"
_SPEND = """SELECT at, source, part, effect, CASE WHEN {has_budget} THEN parts END
    FROM posting INDEXED BY posting_by_time
    WHERE org = ?1 AND at >= ?2 AND (at, source, part) < (?3, ?4, ?5)
    ORDER BY at DESC, source DESC, part DESC LIMIT ?7"""
_HOLD = "id, state, call, legs, created_at, expires_at, ended_at"
_COUNTING = f"""SELECT {_HOLD} FROM (SELECT {_HOLD} FROM hold INDEXED BY {{index}}
        WHERE org = ?1 AND state = '{{state}}' ORDER BY {{order}} LIMIT ?4) AS near
    WHERE created_at <= ?2 AND {{has_budget}}"""
_COUNTING_COUNT = """SELECT
    (SELECT count(*) FROM hold INDEXED BY hold_open WHERE org = ?1 AND state = 'open')
    + (SELECT count(*) FROM hold INDEXED BY hold_suspense WHERE org = ?1 AND state = 'suspense')"""
_MADE = "FROM hold WHERE org = ?1 AND id >= ?2 AND id < ?3"
_MADE_COUNT = f"SELECT count(*) FROM (SELECT 1 {_MADE} LIMIT ?4) AS near"
_ENDED = f"""SELECT {_HOLD} FROM (SELECT {_HOLD} {_MADE} ORDER BY id DESC LIMIT ?6) AS near
    WHERE created_at <= ?4 AND ended_at > ?4 AND {{has_budget}}"""
_FIRST_FROM = "SELECT created_at FROM hold WHERE org = ? AND id >= ? ORDER BY id LIMIT 1"
_HOLD_CALLS = f"SELECT id, call FROM hold WHERE org = ? AND id IN ({TOGETHER_PARAMETERS})"
_EVENT_AGENTS = f"""SELECT k.key, a.name FROM event_key AS k
    JOIN event AS e ON e.org = k.org AND e.occurred_at = k.occurred_at AND e.key = k.key
    LEFT JOIN agent AS a ON a.org = e.org AND a.agent = e.agent
    WHERE k.org = ? AND k.key IN ({TOGETHER_PARAMETERS})"""
_call = msgspec.json.Decoder(Call).decode


class _Moment(NamedTuple):
    """One window at one moment, and the snapshot it is read from."""

    connection: Connection
    org: Org
    window: Window
    at: int
    is_past: bool


class SqlExplainer(Explainer):
    """`enforcement.explanation.Explainer` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def explain(self, query: ExplainQuery) -> Explanation | None:
        """Return what filled the window; see the protocol."""
        return await self._readers.run(query.org, partial(_explain, query=query))


def _explain(connection: Connection, query: ExplainQuery) -> Explanation | None:
    budget = budget_lists.budget(connection, query.org, query.budget)
    if budget is None:
        return None
    window = _window_at(connection, query, budget)
    if window is None:
        return Explanation(budget, None, 0, 0, (), 0, (), None)
    decided = connection.execute(_LAST_DECIDED, (query.org,)).fetchone()
    is_past = decided is not None and query.at < decided[0]
    moment = _Moment(connection, query.org, window, query.at, is_past)
    held, holds, count = _holds(moment)
    spend, following = _spend(moment, query.before, query.limit)
    return Explanation(budget, window, _settled(moment), held, holds, count, spend, following)


def _window_at(connection: Connection, query: ExplainQuery, budget: Budget) -> Window | None:
    """Return the window that holds the moment; an empty one where a calendar's was never touched.

    Raises:
        InvalidInput: A run is missing, or named for a budget that does not count runs.
    """
    is_per_run = budget.period is Period.RUN
    if is_per_run is not bool(query.run):
        asked = "name the run whose window is meant" if is_per_run else "this budget does not count runs"
        raise InvalidInput(f"run: {asked}", field="run")
    place = (query.org, budget.id, query.run, query.at)
    found = [connection.execute(sql, place).fetchone() for sql in (_BEFORE, _AFTER)]
    near = [rows.window_of(tuple(row)) for row in found if row is not None]
    window = Track(query.run, near).at(budget, query.at)
    is_stored = any(window is one for one in near)
    return window if is_stored or not budget.period.begins_with_event else None


def _settled(moment: _Moment) -> int | None:
    """Return what was settled at the moment: today's less what came since, or the sum up to then."""
    window = moment.window
    if not moment.is_past:
        return window.settled
    since = _sum_between(moment, moment.at, 2**63 - 1)
    if since is not None:
        return window.settled - since
    return _sum_between(moment, window.starts_at - 1, moment.at)


def _sum_between(moment: _Moment, after: int, until: int) -> int | None:
    """Return what was posted to the window in a time, None where too much was posted at all."""
    execute = moment.connection.execute
    bounds = (moment.org, after, until)
    if execute(_COUNT, (*bounds, SUM_SCAN_MAX + 1)).fetchone()[0] > SUM_SCAN_MAX:
        return None
    sql = _PARTS.format(has_budget=moment.connection.dialect.contains("parts", "?4"))
    found = moment.connection.stream(sql, (*bounds, moment.window.key.budget))
    return sum(_amount(packed, moment.window.key) for (packed,) in found)


def _amount(packed: bytes, key: WindowKey) -> int:
    return sum(amount for own, amount in rows.parts_of(packed) if own == key)


def _holds(moment: _Moment) -> tuple[int | None, list[Holding], int | None]:
    """Return how much was held, the biggest holds, and how many there were."""
    window = moment.window
    found = sorted(_counting(moment), key=lambda holding: (-holding.amount, holding.id))
    listed = found[:HOLDS_LISTED_MAX]
    if not moment.is_past:
        return window.held, listed, window.open_legs
    bounds = _ids_between(moment)
    is_all = (
        moment.connection.execute(_COUNTING_COUNT, (moment.org,)).fetchone()[0] <= HOLDS_SCAN_MAX
        and moment.connection.execute(_MADE_COUNT, (moment.org, *bounds, HOLDS_SCAN_MAX + 1)).fetchone()[0]
        <= HOLDS_SCAN_MAX
    )
    return (sum(one.amount for one in found), listed, len(found)) if is_all else (None, listed, None)


def _counting(moment: _Moment) -> Iterator[Holding]:
    """Yield the holds that counted at the moment: those that still do, and those that ended since."""
    budget = moment.window.key.budget
    contains = moment.connection.dialect.contains
    open_now = (moment.org, moment.at, budget, HOLDS_SCAN_MAX)
    for index, state, order in (("hold_open", "open", "expires_at"), ("hold_suspense", "suspense", "id")):
        sql = _COUNTING.format(index=index, state=state, order=order, has_budget=contains("legs", "?3"))
        yield from _holdings(moment, moment.connection.stream(sql, open_now))
    if moment.is_past:
        first, last = _ids_between(moment)
        values = (moment.org, first, last, moment.at, budget, HOLDS_SCAN_MAX)
        sql = _ENDED.format(has_budget=contains("legs", "?5"))
        yield from _holdings(moment, moment.connection.stream(sql, values))


def _holdings(moment: _Moment, found: Iterable[tuple[Any, ...]]) -> Iterator[Holding]:
    for hold_id, state, call, packed, created_at, expires_at, ended_at in found:
        legs = [leg for leg in rows.legs_of(packed) if leg.window == moment.window.key]
        amount = sum(_held(leg, was_open=ended_at is not None) for leg in legs)
        if any(leg.is_open for leg in legs) or (legs and ended_at is not None):
            who = _call(call)
            yield Holding(hold_id, who.agent, who.model, HoldState(state), amount, created_at, expires_at)


def _held(leg: Leg, *, was_open: bool) -> int:
    """Return what a leg held at the moment: what it holds still, or all of it where it ended since."""
    return leg.amount if was_open else leg.held


def _ids_between(moment: _Moment) -> tuple[bytes, bytes]:
    """Return the range of ids in which the window's holds of up to the moment lie."""
    first = _first_made_after(moment, moment.window.starts_at - 1)
    last = _first_made_after(moment, moment.at)
    lowest = max(first - _ID_SPARE, 0).to_bytes(6, "big") + bytes(10)
    highest = last + _ID_SPARE
    return lowest, _NEWEST if highest >> _ID_BITS else highest.to_bytes(6, "big") + bytes(10)


def _first_made_after(moment: _Moment, at: int) -> int:
    """Return the id's time (its first 48 bits) from which on holds were made after `at`."""
    near = at * 1_000 // MICROS_PER_SECOND
    probes = iter((near - _ID_SPARE, near + _ID_SPARE, near - _ID_NEAR, near + _ID_NEAR))
    low, high = 0, 1 << _ID_BITS
    while low < high:
        probe = next(probes, None)
        middle = (low + high) // 2 if probe is None else min(max(probe, low), high - 1)
        place = (moment.org, middle.to_bytes(6, "big") + bytes(10))
        row = moment.connection.execute(_FIRST_FROM, place).fetchone()
        if row is None or row[0] > at:
            high = middle
        else:
            low = middle + 1
    return low


def _spend(moment: _Moment, before: SpendPlace | None, limit: int) -> tuple[list[Posted], SpendPlace | None]:
    """Return a page of what had come into the window, and where the next one goes on."""
    window = moment.window
    place = before or SpendPlace(moment.at, _NEWEST + b"\xff", 0)
    sql = _SPEND.format(has_budget=moment.connection.dialect.contains("parts", "?6"))

    def part(place: SpendPlace, most: int) -> Rows:
        bounds = (moment.org, window.starts_at, *place, window.key.budget, most)
        return moment.connection.execute(sql, bounds)

    found: list[Posted] = []
    postings = walked(part, place, lambda row: SpendPlace._make(row[:3]), first=limit + 1)
    for scanned, (at, source, number, effect, packed) in enumerate(postings):
        if len(found) == limit or scanned == PAGE_SCAN_MAX:
            return _with_senders(moment, found), place
        place = SpendPlace(at, source, number)
        amount = None if packed is None else _part_of(packed, window.key)
        if amount is not None:
            found.append(Posted(source, False, None, amount, Effect(effect), at))  # noqa: FBT003 - told below
    return _with_senders(moment, found), None


def _part_of(packed: bytes, key: WindowKey) -> int | None:
    """Return what a posting put into a window, None where it did not touch it."""
    amounts = [amount for own, amount in rows.parts_of(packed) if own == key]
    return sum(amounts) if amounts else None


def _with_senders(moment: _Moment, found: list[Posted]) -> list[Posted]:
    """Return what was posted with whose it was: a hold's, else an event's."""
    execute = moment.connection.execute
    holds: dict[bytes, str] = {}
    for ids in by_ids(one.source for one in found):
        holds |= {hold: _call(call).agent for hold, call in execute(_HOLD_CALLS, (moment.org, *ids))}
    events: dict[bytes, str | None] = {}
    for keys in by_ids(one.source for one in found if one.source not in holds):
        events |= dict(execute(_EVENT_AGENTS, (moment.org, *keys)).fetchall())
    return [
        one._replace(is_hold=one.source in holds, agent=holds.get(one.source, events.get(one.source)))
        for one in found
    ]
