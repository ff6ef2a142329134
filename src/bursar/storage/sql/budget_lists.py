"""Lists of budgets, windows, holds, incidents and gates, from a reader's snapshot.

Each takes a read-only connection (`readers.Readers.run`) and is bound to one organisation
and to a number of rows. Pages go on from the last id of the page before. Not here: what an
enforcing commit loads (`budgets`).
"""

from collections.abc import Iterator
from itertools import islice

from bursar.budgets.alert import Alert
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey
from bursar.budgets.hold import Hold
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.budgets.window import Window, WindowKey
from bursar.core.ids import Org
from bursar.enforcement.reading import Approval, SeenIncident
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.ports import Connection

NEWEST = b"\xff" * 16
"""Where the first page of a list that begins with the newest id goes on from."""

_ALERTS = f"SELECT {rows.ALERT_COLUMNS} FROM alert WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_ALERTS_OF_BUDGET = f"""SELECT {rows.ALERT_COLUMNS} FROM alert
    WHERE org = ? AND budget = ? AND id < ? ORDER BY id DESC LIMIT ?"""
_BUDGETS = f"""SELECT {rows.BUDGET_COLUMNS} FROM budget
    WHERE org = ? AND deleted_at IS NULL AND id > ? ORDER BY id"""
_ANY_BUDGET = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id = ?"
_BUDGET = f"{_ANY_BUDGET} AND deleted_at IS NULL"
_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = ? AND starts_at < ? ORDER BY starts_at DESC LIMIT ?"""
_WINDOW = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = ? AND starts_at = ?"""
_WINDOW_BEFORE = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = '' AND starts_at <= ? ORDER BY starts_at DESC LIMIT 1"""
_WINDOW_AFTER = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = '' AND starts_at > ? ORDER BY starts_at LIMIT 1"""
_HOLD = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id = ?"
_HOLDS = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_OPEN_HOLDS = f"""SELECT {rows.HOLD_COLUMNS} FROM hold
    WHERE org = ? AND state = 'open' AND (expires_at, id) > (?, ?) ORDER BY expires_at, id LIMIT ?"""
_INCIDENT = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ? AND id = ?"
_INCIDENTS = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ? AND id < ? ORDER BY id DESC"
_APPROVALS = """SELECT at, resolution, actor, note, limit_amount, until FROM approval
    WHERE org = ? AND incident = ? ORDER BY at, id"""
_GATE = "SELECT kind, name, epoch, stops FROM gate WHERE org = ? AND kind = ? AND name = ?"
_GATES = """SELECT kind, name, epoch, stops FROM gate
    WHERE org = ? AND (kind, name) > (?, ?) ORDER BY kind, name"""


def budgets(connection: Connection, org: Org, *, after: bytes = b"", most: int) -> list[Budget]:
    """Return active budgets in order of id."""
    return list(islice(each_budget(connection, org, after=after), most))


def each_budget(connection: Connection, org: Org, *, after: bytes = b"") -> Iterator[Budget]:
    """Yield active budgets in order of id, for whoever looks for some of them."""
    for row in connection.execute(_BUDGETS, (org, after)):
        yield rows.budget_of(tuple(row))


def budget(connection: Connection, org: Org, budget_id: bytes) -> Budget | None:
    """Return one active budget."""
    row = connection.execute(_BUDGET, (org, budget_id)).fetchone()
    return None if row is None else rows.budget_of(tuple(row))


def windows_around(connection: Connection, org: Org, budget_id: bytes, at: int) -> list[Window]:
    """Return what `Track.at` needs of a budget that is not per run: the windows on both sides of `at`."""
    found = (
        connection.execute(sql, (org, budget_id, at)).fetchone() for sql in (_WINDOW_BEFORE, _WINDOW_AFTER)
    )
    return [rows.window_of(tuple(row)) for row in found if row is not None]


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
    found = connection.execute(_INCIDENTS, (org, before))
    return [rows.incident_of(tuple(row)) for row in islice(found, most)]


def each_incident(
    connection: Connection, org: Org, *, is_open: bool | None = None, before: bytes = NEWEST
) -> Iterator[SeenIncident]:
    """Yield incidents with their budgets and windows, newest first: open ones, decided ones, or all."""
    for row in connection.execute(_INCIDENTS, (org, before)):
        incident = rows.incident_of(tuple(row))
        if is_open in {None, incident.resolution is Resolution.OPEN}:
            yield _seen(connection, org, incident)


def incident(connection: Connection, org: Org, incident_id: bytes) -> SeenIncident | None:
    """Return one incident with its budget and window."""
    row = connection.execute(_INCIDENT, (org, incident_id)).fetchone()
    return None if row is None else _seen(connection, org, rows.incident_of(tuple(row)))


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
    for row in connection.execute(_GATES, (org, *after)):
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


def _seen(connection: Connection, org: Org, incident: Incident) -> SeenIncident:
    """Return an incident with the rows that it names; they are never taken away."""
    window = connection.execute(_WINDOW, (org, *incident.window)).fetchone()
    budget = connection.execute(_ANY_BUDGET, (org, incident.window.budget)).fetchone()
    return SeenIncident(incident, rows.budget_of(tuple(budget)), rows.window_of(tuple(window)))
