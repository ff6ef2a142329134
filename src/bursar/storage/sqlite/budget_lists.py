"""Lists of budgets, windows, holds, incidents and gates, from a reader's snapshot.

Each takes a read-only connection (`readers.SqliteReaders.run`) and is bound to one organisation
and to a number of rows. Pages go on from the last id of the page before. Not here: what an
enforcing commit loads (`budgets`).
"""

import sqlite3

from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate
from bursar.budgets.hold import Hold
from bursar.budgets.incident import Incident
from bursar.budgets.window import Window, WindowKey
from bursar.core.ids import Org
from bursar.storage.sqlite import budget_rows as rows

NEWEST = b"\xff" * 16
"""Where the first page of a list that begins with the newest id goes on from."""

_BUDGETS = f"""SELECT {rows.BUDGET_COLUMNS} FROM budget
    WHERE org = ? AND deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?"""
_BUDGET = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id = ? AND deleted_at IS NULL"
_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window
    WHERE org = ? AND budget = ? AND member = ? AND starts_at < ? ORDER BY starts_at DESC LIMIT ?"""
_HOLD = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id = ?"
_HOLDS = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_OPEN_HOLDS = f"""SELECT {rows.HOLD_COLUMNS} FROM hold
    WHERE org = ? AND state = 'open' AND (expires_at, id) > (?, ?) ORDER BY expires_at, id LIMIT ?"""
_INCIDENTS = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?"
_GATES = """SELECT kind, name, epoch, stops FROM gate
    WHERE org = ? AND (kind, name) > (?, ?) ORDER BY kind, name LIMIT ?"""


def budgets(connection: sqlite3.Connection, org: Org, *, after: bytes = b"", most: int) -> list[Budget]:
    """Return active budgets in order of id."""
    return [rows.budget_of(tuple(row)) for row in connection.execute(_BUDGETS, (org, after, most))]


def budget(connection: sqlite3.Connection, org: Org, budget_id: bytes) -> Budget | None:
    """Return one active budget."""
    row = connection.execute(_BUDGET, (org, budget_id)).fetchone()
    return None if row is None else rows.budget_of(tuple(row))


def windows(connection: sqlite3.Connection, org: Org, before: WindowKey, *, most: int) -> list[Window]:
    """Return a budget's windows, newest first, of one run where it counts runs.

    Args:
        connection: A reader's.
        org: The organisation.
        before: The last one of the page before; for the first page with `window.NEVER` as its beginning.
        most: How many at most.
    """
    return [rows.window_of(tuple(row)) for row in connection.execute(_WINDOWS, (org, *before, most))]


def hold(connection: sqlite3.Connection, org: Org, hold_id: bytes) -> Hold | None:
    """Return one hold."""
    row = connection.execute(_HOLD, (org, hold_id)).fetchone()
    return None if row is None else rows.hold_of(tuple(row))


def holds(connection: sqlite3.Connection, org: Org, *, before: bytes = NEWEST, most: int) -> list[Hold]:
    """Return holds in any state, newest first."""
    return [rows.hold_of(tuple(row)) for row in connection.execute(_HOLDS, (org, before, most))]


def open_holds(
    connection: sqlite3.Connection, org: Org, *, after: tuple[int, bytes] = (0, b""), most: int
) -> list[Hold]:
    """Return open holds, the first to expire first; `after` is the last one's expiry and id."""
    return [rows.hold_of(tuple(row)) for row in connection.execute(_OPEN_HOLDS, (org, *after, most))]


def incidents(
    connection: sqlite3.Connection, org: Org, *, before: bytes = NEWEST, most: int
) -> list[Incident]:
    """Return incidents, newest first."""
    return [rows.incident_of(tuple(row)) for row in connection.execute(_INCIDENTS, (org, before, most))]


def gates(
    connection: sqlite3.Connection, org: Org, *, after: tuple[str, str] = ("", ""), most: int
) -> list[Gate]:
    """Return every gate that was ever stopped, in order of kind and name."""
    return [rows.gate_of(tuple(row)) for row in connection.execute(_GATES, (org, *after, most))]
