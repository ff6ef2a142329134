"""`enforcement.hold_reading.HoldReader` on reading connections: one hold, lists, who holds a window's room.

Open and suspended holds are found by indexes of their own. All others are walked from the newest
on, a bounded number of rows a page, so that a filter that fits nothing costs no more than one that
fits everything; the page's place moves on by what was walked.

Not here: what a commit loads (`budgets`).
"""

from collections.abc import Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Final

from bursar.budgets.budget import Terms, terms_of
from bursar.budgets.hold import Hold, HoldState
from bursar.budgets.seen import window_seen
from bursar.budgets.window import Window, WindowKey
from bursar.core.errors import InvalidInput
from bursar.core.ids import Org
from bursar.enforcement.hold_reading import Holder, Holders, HoldPage, HoldQuery, ShownHold
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.ports import Connection, Readers, Rows
from bursar.storage.sql.walks import TOGETHER_PARAMETERS, by_ids, walked

WALKED_MAX: Final = 2_000
"""Rows that one page walks at most: some 10 ms in a reader's thread."""

HELD_MAX: Final = 200
"""Holds that are added up to say who holds a window's room."""

HOLDING_WALKED_MAX: Final = 1_000
"""Open holds among which those are looked for: about a millisecond."""

_ID_BYTES = 16
_TIME_BYTES = 8
_NEWEST = b"\xff" * _ID_BYTES
_LAST = 2**63 - 1

_SELECT = f"SELECT {rows.HOLD_COLUMNS} FROM hold"
_ONE = f"{_SELECT} WHERE org = ? AND id = ?"
_BY_KEY = f"{_SELECT} INDEXED BY hold_by_key WHERE org = ? AND key = ?"
# A call is stored as the list of its fields; a budget's id stands in the packed legs as it is.
_WALK = f"""SELECT {rows.HOLD_COLUMNS}, (:agent = '' OR {{agent}} = :agent)
        AND (:project = '' OR {{project}} = :project) AND (kind = :kind OR :kind IS NULL)
        AND (state = :state OR :state IS NULL) AND ({{has_budget}} OR :budget IS NULL) AS fits FROM hold"""
_ALL = f"{_WALK} WHERE org = :org AND id < :id ORDER BY id DESC LIMIT :walked"
_SUSPENDED = f"""{_WALK} INDEXED BY hold_suspense
    WHERE org = :org AND state = 'suspense' AND id < :id ORDER BY id DESC LIMIT :walked"""
_OPEN = f"""{_WALK} INDEXED BY hold_open
    WHERE org = :org AND state = 'open' AND (expires_at, id) < (:expires_at, :id)
    ORDER BY expires_at DESC, id DESC LIMIT :walked"""
_HOLDING = """SELECT {agent}, legs FROM
    (SELECT call, legs FROM hold INDEXED BY {index}
        WHERE org = ?1 AND state = '{state}' ORDER BY {order} LIMIT ?3) AS near
    WHERE {has_budget} LIMIT ?4"""
_COUNTED = """SELECT count(*) FROM (
    SELECT 1 FROM hold INDEXED BY hold_open WHERE org = ? AND state = 'open' LIMIT ?) AS near"""
_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND member = ? AND starts_at = ? AND budget IN ({TOGETHER_PARAMETERS})"""
_BUDGET = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id = ?"


@cache
def _walks(dialect: Dialect) -> dict[HoldState | None, str]:
    """Return what walks the holds of a state, and those of all under None."""
    blanks = {
        "agent": dialect.item("call", 0),
        "project": dialect.item("call", 1),
        "has_budget": dialect.contains("legs", ":budget"),
    }
    walks = {HoldState.OPEN: _OPEN, HoldState.SUSPENSE: _SUSPENDED, None: _ALL}
    return {state: sql.format(**blanks) for state, sql in walks.items()}


@cache
def _holding(dialect: Dialect) -> tuple[str, str]:
    """Return what finds the open holds of a window's budget, and those in suspense."""
    sql = partial(_HOLDING.format, agent=dialect.item("call", 0), has_budget=dialect.contains("legs", "?2"))
    return (
        sql(index="hold_open", state="open", order="expires_at"),
        sql(index="hold_suspense", state="suspense", order="id"),
    )


class SqlHoldReader:
    """`HoldReader` on reading connections; a page walks at most `walked_max` rows."""

    def __init__(self, readers: Readers, *, walked_max: int = WALKED_MAX) -> None:
        self._readers = readers
        self._walked_max = walked_max

    async def get(self, org: Org, hold_id: bytes) -> ShownHold | None:
        """Return one hold."""
        return await self._readers.run_short(org, partial(_one, sql=_ONE, org=org, value=hold_id))

    async def by_key(self, org: Org, key: bytes) -> ShownHold | None:
        """Return the hold that stands for an idempotency key."""
        return await self._readers.run_short(org, partial(_one, sql=_BY_KEY, org=org, value=key))

    async def page(self, org: Org, query: HoldQuery) -> HoldPage:
        """Return one page of a list."""
        return await self._readers.run(org, partial(_page, org=org, query=query, walked_max=self._walked_max))

    async def holders(self, org: Org, window: WindowKey) -> Holders:
        """Return who holds how much of a window now: open holds and what is in suspense."""
        return await self._readers.run_short(org, partial(_holders, org=org, window=window))

    async def terms(self, org: Org, budget_id: bytes) -> Terms | None:
        """Return a budget's rules, also of one that is ended."""

        def work(connection: Connection) -> Terms | None:
            row = connection.execute(_BUDGET, (org, budget_id)).fetchone()
            return None if row is None else terms_of(rows.budget_of(tuple(row)))

        return await self._readers.run_short(org, work)


def _one(connection: Connection, *, sql: str, org: Org, value: bytes) -> ShownHold | None:
    row = connection.execute(sql, (org, value)).fetchone()
    return None if row is None else _shown(connection, org, [rows.hold_of(tuple(row))])[0]


def _page(connection: Connection, *, org: Org, query: HoldQuery, walked_max: int) -> HoldPage:
    """Walk from the page's place until it is full, or for as long as one page may."""
    walks = _walks(connection.dialect)
    sql = walks.get(query.state, walks[None])
    parameters = {
        "org": org,
        "agent": query.agent,
        "project": query.project,
        "budget": query.budget,
        "kind": query.kind,
        "state": query.state,
    }

    def part(place: tuple[int, bytes], most: int) -> Rows:
        expires_at, last_id = place
        return connection.execute(
            sql, {**parameters, "expires_at": expires_at, "id": last_id, "walked": most}
        )

    found: list[Hold] = []
    place: bytes | None = None
    holds = walked(part, _place_of(query), itemgetter("expires_at", "id"), first=query.most + 1)
    for count, row in enumerate(holds):
        if len(found) == query.most or count == walked_max:
            return HoldPage(_shown(connection, org, found), place)
        *columns, fits = tuple(row)
        hold = rows.hold_of(tuple(columns))
        place = hold.expires_at.to_bytes(_TIME_BYTES) + hold.id
        if fits:
            found.append(hold)
    return HoldPage(_shown(connection, org, found), None)


def _place_of(query: HoldQuery) -> tuple[int, bytes]:
    """Return the end and the id behind which a page begins.

    Raises:
        InvalidInput: Not a place of ours.
    """
    place = query.before
    if not place:
        return _LAST, _NEWEST
    if len(place) != _TIME_BYTES + _ID_BYTES or place[0] >> 7:
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return int.from_bytes(place[:_TIME_BYTES]), place[_TIME_BYTES:]


def _shown(connection: Connection, org: Org, holds: Sequence[Hold]) -> list[ShownHold]:
    """Return holds with their windows; those that begin together are read together."""
    budgets: dict[tuple[str, int], set[bytes]] = {}
    for hold in holds:
        for leg in hold.legs:
            budgets.setdefault((leg.window.member, leg.window.starts_at), set()).add(leg.window.budget)
    windows: dict[WindowKey, Window] = {}
    for beginning, some in budgets.items():
        for ids in by_ids(some):
            for row in connection.execute(_WINDOWS, (org, *beginning, *ids)):
                window = rows.window_of(tuple(row))
                windows[window.key] = window
    return [
        ShownHold(
            hold,
            tuple(window_seen(windows[leg.window], leg.amount) for leg in hold.legs if leg.window in windows),
        )
        for hold in holds
    ]


def _holders(connection: Connection, *, org: Org, window: WindowKey) -> Holders:
    asked = (org, window.budget, HOLDING_WALKED_MAX, HELD_MAX)
    holding, suspending = (connection.execute(sql, asked).fetchall() for sql in _holding(connection.dialect))
    amounts: dict[str, int] = {}
    counts: dict[str, int] = {}
    for agent, packed in (*holding, *suspending):
        held = sum(leg.held for leg in rows.legs_of(packed) if leg.window == window)
        if held:
            amounts[agent] = amounts.get(agent, 0) + held
            counts[agent] = counts.get(agent, 0) + 1
    agents = [Holder(agent, amount, counts[agent]) for agent, amount in amounts.items()]
    walked = connection.execute(_COUNTED, (org, HOLDING_WALKED_MAX)).fetchone()[0]
    is_partial = max(len(holding), len(suspending)) >= HELD_MAX or walked >= HOLDING_WALKED_MAX
    return Holders(sorted(agents, key=lambda holder: (-holder.amount, holder.agent)), is_partial)
