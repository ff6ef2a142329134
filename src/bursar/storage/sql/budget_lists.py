"""Lists of budgets, windows, holds, incidents and gates, from a reader's snapshot.

Each takes a read-only connection (`readers.Readers.run`) and is bound to one organisation
and to a number of rows. Pages go on from the last id of the page before. Not here: what an
enforcing commit loads (`budgets`).
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import Any

from bursar.budgets.alert import Alert
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey
from bursar.budgets.hold import Hold
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.budgets.window import Window, WindowKey
from bursar.core.ids import Org
from bursar.enforcement.reading import Approval, SeenIncident
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.ports import Connection, Rows
from bursar.storage.sql.walks import TOGETHER_PARAMETERS, by_ids, prefixed, walked

NEWEST = b"\xff" * 16
"""Where the first page of a list that begins with the newest id goes on from."""

_ALERTS = f"SELECT {rows.ALERT_COLUMNS} FROM alert WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_ALERTS_OF_BUDGET = f"""SELECT {rows.ALERT_COLUMNS} FROM alert
    WHERE org = ? AND budget = ? AND id < ? ORDER BY id DESC LIMIT ?"""
_BUDGETS = f"""SELECT {rows.BUDGET_COLUMNS} FROM budget
    WHERE org = ? AND deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?"""
_ANY_BUDGET = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id = ?"
_BUDGET = f"{_ANY_BUDGET} AND deleted_at IS NULL"
_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = ? AND starts_at < ? ORDER BY starts_at DESC LIMIT ?"""
_WINDOW = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = ? AND starts_at = ?"""
# The windows of some budgets on one side of an instant; `member` is empty, as none of them counts runs.
_WINDOWS_BESIDE = f"""SELECT {prefixed(rows.WINDOW_COLUMNS, "r")} FROM {{windows}}
    WHERE b.org = ?1 AND b.id IN ({TOGETHER_PARAMETERS})"""
_BESIDE = """r.org = b.org AND r.budget = b.id AND r.member = '' AND r.starts_at = (
        SELECT {nearest}(n.starts_at) FROM budget_window AS n
        WHERE n.org = b.org AND n.budget = b.id AND n.member = '' AND n.starts_at {side} ?2)"""
_HOLD = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id = ?"
_HOLDS = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_OPEN_HOLDS = f"""SELECT {rows.HOLD_COLUMNS} FROM hold
    WHERE org = ? AND state = 'open' AND (expires_at, id) > (?, ?) ORDER BY expires_at, id LIMIT ?"""
# The rows that an incident names are never taken away.
_SEEN = f"""SELECT {prefixed(rows.INCIDENT_COLUMNS, "i")}, {prefixed(rows.BUDGET_COLUMNS, "b")},
        {prefixed(rows.WINDOW_COLUMNS, "w")}
    FROM incident AS i JOIN budget AS b ON b.org = i.org AND b.id = i.budget
        JOIN budget_window AS w ON w.org = i.org AND w.budget = i.budget AND w.member = i.member
            AND w.starts_at = i.starts_at"""
_INCIDENT = f"{_SEEN} WHERE i.org = ? AND i.id = ?"
_INCIDENTS = f"{_SEEN} WHERE i.org = ? AND i.id < ? ORDER BY i.id DESC LIMIT ?"
_INCIDENT_WIDTH = len(rows.INCIDENT_COLUMNS.split(","))
_BUDGET_WIDTH = len(rows.BUDGET_COLUMNS.split(","))
_APPROVALS = """SELECT at, resolution, actor, note, limit_amount, until FROM approval
    WHERE org = ? AND incident = ? ORDER BY at, id"""
_GATE = "SELECT kind, name, epoch, stops FROM gate WHERE org = ? AND kind = ? AND name = ?"
_GATES = """SELECT kind, name, epoch, stops FROM gate
    WHERE org = ? AND (kind, name) > (?, ?) ORDER BY kind, name LIMIT ?"""


def budgets(connection: Connection, org: Org, *, after: bytes = b"", most: int) -> list[Budget]:
    """Return active budgets in order of id."""
    return list(islice(each_budget(connection, org, after=after), most))


def each_budget(connection: Connection, org: Org, *, after: bytes = b"") -> Iterator[Budget]:
    """Yield active budgets in order of id, for whoever looks for some of them."""

    def part(place: bytes, most: int) -> Rows:
        return connection.execute(_BUDGETS, (org, place, most))

    for row in walked(part, after, itemgetter(0)):
        yield rows.budget_of(tuple(row))


def budget(connection: Connection, org: Org, budget_id: bytes) -> Budget | None:
    """Return one active budget."""
    row = connection.execute(_BUDGET, (org, budget_id)).fetchone()
    return None if row is None else rows.budget_of(tuple(row))


@cache
def _windows_beside(dialect: Dialect) -> list[str]:
    """Return what finds the last window that begins by an instant, and what finds the first one after it."""
    sides = (("max", "<="), ("min", ">"))
    return [
        _WINDOWS_BESIDE.format(
            windows=dialect.sought("budget AS b", "budget_window", _BESIDE.format(nearest=nearest, side=side))
        )
        for nearest, side in sides
    ]


def windows_around(
    connection: Connection, org: Org, budgets: Iterable[bytes], at: int
) -> dict[bytes, list[Window]]:
    """Return what `Track.at` needs of budgets that are not per run: the windows on both sides of `at`."""
    found: dict[bytes, list[Window]] = {}
    for ids in by_ids(budgets):
        for sql in _windows_beside(connection.dialect):
            for row in connection.execute(sql, (org, at, *ids)):
                window = rows.window_of(tuple(row))
                found.setdefault(window.key.budget, []).append(window)
    return found


def windows(connection: Connection, org: Org, before: WindowKey, *, most: int) -> list[Window]:
    """Return a budget's windows, newest first, of one run where it counts runs.

    Args:
        connection: A reader's.
        org: The organisation.
        before: The last one of the page before; for the first page with `window.NEVER` as its beginning.
        most: How many at most.
    """
    return [rows.window_of(tuple(row)) for row in connection.execute(_WINDOWS, (org, *before, most))]


def hold(connection: Connection, org: Org, hold_id: bytes) -> Hold | None:
    """Return one hold."""
    row = connection.execute(_HOLD, (org, hold_id)).fetchone()
    return None if row is None else rows.hold_of(tuple(row))


def holds(connection: Connection, org: Org, *, before: bytes = NEWEST, most: int) -> list[Hold]:
    """Return holds in any state, newest first."""
    return [rows.hold_of(tuple(row)) for row in connection.execute(_HOLDS, (org, before, most))]


def open_holds(
    connection: Connection, org: Org, *, after: tuple[int, bytes] = (0, b""), most: int
) -> list[Hold]:
    """Return open holds, the first to expire first; `after` is the last one's expiry and id."""
    return [rows.hold_of(tuple(row)) for row in connection.execute(_OPEN_HOLDS, (org, *after, most))]


def incidents(connection: Connection, org: Org, *, before: bytes = NEWEST, most: int) -> list[Incident]:
    """Return incidents, newest first."""
    return [_seen(row).incident for row in connection.execute(_INCIDENTS, (org, before, most))]


def each_incident(
    connection: Connection, org: Org, *, is_open: bool | None = None, before: bytes = NEWEST
) -> Iterator[SeenIncident]:
    """Yield incidents with their budgets and windows, newest first: open ones, decided ones, or all."""

    def part(place: bytes, most: int) -> Rows:
        return connection.execute(_INCIDENTS, (org, place, most))

    for row in walked(part, before, itemgetter(0)):
        seen = _seen(row)
        if is_open in {None, seen.incident.resolution is Resolution.OPEN}:
            yield seen


def incident(connection: Connection, org: Org, incident_id: bytes) -> SeenIncident | None:
    """Return one incident with its budget and window."""
    row = connection.execute(_INCIDENT, (org, incident_id)).fetchone()
    return None if row is None else _seen(row)


def approvals(connection: Connection, org: Org, incident_id: bytes) -> list[Approval]:
    """Return what was decided about an incident, oldest first."""
    return [
        Approval(at, Decision(Resolution(resolution), actor, note, limit, until))
        for at, resolution, actor, note, limit, until in connection.execute(_APPROVALS, (org, incident_id))
    ]


def gate(connection: Connection, org: Org, key: GateKey) -> Gate | None:
    """Return one gate, None if nobody ever stopped it."""
    row = connection.execute(_GATE, (org, key.kind.value, key.name)).fetchone()
    return None if row is None else rows.gate_of(tuple(row))


def gates(connection: Connection, org: Org, *, after: tuple[str, str] = ("", ""), most: int) -> list[Gate]:
    """Return every gate that was ever stopped, in order of kind and name."""
    return list(islice(each_gate(connection, org, after=after), most))


def each_gate(connection: Connection, org: Org, *, after: tuple[str, str] = ("", "")) -> Iterator[Gate]:
    """Yield every gate that was ever stopped, in order of kind and name."""

    def part(place: tuple[str, str], most: int) -> Rows:
        return connection.execute(_GATES, (org, *place, most))

    for row in walked(part, after, itemgetter(0, 1)):
        yield rows.gate_of(tuple(row))


def alerts(
    connection: Connection, org: Org, budget_id: bytes | None, *, before: bytes = NEWEST, most: int
) -> list[Alert]:
    """Return alerts of one budget, or of everything (None), newest first."""
    if budget_id is None:
        found = connection.execute(_ALERTS, (org, before, most))
    else:
        found = connection.execute(_ALERTS_OF_BUDGET, (org, budget_id, before, most))
    return [rows.alert_of(tuple(row)) for row in found]


def _seen(row: Iterable[Any]) -> SeenIncident:
    """Return an incident with the budget and the window that it names."""
    cells = tuple(row)
    budget, window = cells[_INCIDENT_WIDTH:][:_BUDGET_WIDTH], cells[_INCIDENT_WIDTH + _BUDGET_WIDTH :]
    return SeenIncident(
        rows.incident_of(cells[:_INCIDENT_WIDTH]), rows.budget_of(budget), rows.window_of(window)
    )
