"""The open leases of an organisation in SQLite, as far as clients are counted by them.

Leases are few among open holds and have a partial index of their own, so that counting the
clients of a budget reads no call's hold. Not here: loading and writing holds (`budgets`).
"""

from bursar.budgets.window import WindowKey
from bursar.core.ids import Org
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.ports import Connection

LEGS = "SELECT id, legs FROM hold INDEXED BY hold_leases WHERE org = ? AND state = 'open' AND kind = 'lease'"


def windows_of_leases(connection: Connection, org: Org) -> dict[bytes, frozenset[WindowKey]]:
    """Return the windows of each open lease's legs, by the lease's id."""
    found = connection.execute(LEGS, (org,))
    return {lease: frozenset(leg.window for leg in rows.legs_of(legs)) for lease, legs in found}
