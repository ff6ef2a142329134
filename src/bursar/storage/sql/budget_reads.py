"""`enforcement.reading.BudgetReader` over the one file: short reads, each from one snapshot.

Not here: the statements of lists (`budget_lists`), what a commit loads (`budgets`).
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice

from bursar.budgets.alert import Alert
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey, GateKind, gate_keys
from bursar.budgets.matching import fits
from bursar.budgets.window import Track, Window, WindowKey
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.enforcement.reading import Approval, GateSight, Seen, SeenIncident, Sight
from bursar.enforcement.stops import call_behind, stop_by
from bursar.storage.sql import budget_lists as lists
from bursar.storage.sql.ports import Connection, Readers

_ZONE = "SELECT zone FROM organisation WHERE org = ?"
# Number 1 stands for those beyond the cap.
_AGENTS = "SELECT count(*) FROM agent WHERE org = ? AND agent > 1"
# A call is stored as the list of its fields, the agent first and the project second.
_NAMED = {
    GateKind.AGENT: (
        "SELECT 1 FROM agent WHERE org = ? AND name = ?",
        "SELECT 1 FROM gate WHERE org = ? AND kind = 'agent' AND name = ?",
        "SELECT 1 FROM budget WHERE org = ? AND scope ->> 'agent' = ? LIMIT 1",
        "SELECT 1 FROM hold WHERE org = ? AND state = 'open' AND call ->> 0 = ? LIMIT 1",
    ),
    GateKind.PROJECT: (
        "SELECT 1 FROM project WHERE org = ? AND name = ?",
        "SELECT 1 FROM gate WHERE org = ? AND kind = 'project' AND name = ?",
        "SELECT 1 FROM budget WHERE org = ? AND scope ->> 'project' = ? LIMIT 1",
        "SELECT 1 FROM hold WHERE org = ? AND state = 'open' AND call ->> 1 = ? LIMIT 1",
    ),
}
_OPEN = """SELECT count(*), max(CASE WHEN kind = 'lease' THEN deadline_at END) FROM hold
    WHERE org = ? AND state = 'open'"""
_OPEN_OF = {
    GateKind.ORGANISATION: f"{_OPEN} AND ? = ''",
    GateKind.AGENT: f"{_OPEN} AND call ->> 0 = ?",
    GateKind.PROJECT: f"{_OPEN} AND call ->> 1 = ?",
}


class SqlBudgetReader:
    """`BudgetReader` on reading connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def zone(self, org: Org) -> str:
        """Return the organisation's zone."""
        return await self._readers.run_short(org, partial(_zone, org=org))

    async def budgets(self, org: Org, sight: Sight, at: int, *, after: bytes, most: int) -> list[Seen]:
        """Return active budgets in order of id."""

        def work(connection: Connection) -> list[Seen]:
            shown = filter(sight.shows, lists.each_budget(connection, org, after=after))
            return [_seen(connection, org, budget, at) for budget in islice(shown, most)]

        return await self._readers.run(org, work)

    async def budget(self, org: Org, budget_id: bytes, at: int) -> Seen | None:
        """Return one active budget."""

        def work(connection: Connection) -> Seen | None:
            budget = lists.budget(connection, org, budget_id)
            return None if budget is None else _seen(connection, org, budget, at)

        return await self._readers.run_short(org, work)

    async def windows(self, org: Org, before: WindowKey, *, most: int) -> list[Window]:
        """Return windows, newest first."""
        return await self._readers.run(org, partial(lists.windows, org=org, before=before, most=most))

    async def alerts(self, org: Org, budget_id: bytes, *, before: bytes, most: int) -> list[Alert]:
        """Return alerts of a budget, newest first."""
        asked = partial(lists.alerts, org=org, budget_id=budget_id, before=before, most=most)
        return await self._readers.run(org, asked)

    async def incidents(
        self, org: Org, sight: Sight, *, is_open: bool | None, before: bytes, most: int
    ) -> list[SeenIncident]:
        """Return incidents, newest first."""

        def work(connection: Connection) -> list[SeenIncident]:
            found = lists.each_incident(connection, org, is_open=is_open, before=before)
            shown = (one for one in found if sight.shows(one.budget))
            return list(islice(shown, most))

        return await self._readers.run(org, work)

    async def incident(self, org: Org, incident_id: bytes) -> SeenIncident | None:
        """Return one incident."""
        return await self._readers.run_short(org, partial(lists.incident, org=org, incident_id=incident_id))

    async def approvals(self, org: Org, incident_id: bytes) -> list[Approval]:
        """Return the decisions about an incident, oldest first."""
        return await self._readers.run(org, partial(lists.approvals, org=org, incident_id=incident_id))

    async def gates(self, org: Org, *, after: tuple[str, str], most: int) -> list[Gate]:
        """Return the gates that are stopped now."""

        def work(connection: Connection) -> list[Gate]:
            stopped = (gate for gate in lists.each_gate(connection, org, after=after) if gate.stops)
            return list(islice(stopped, most))

        return await self._readers.run(org, work)

    async def gate(self, org: Org, key: GateKey, at: int) -> GateSight:
        """Return what stands before an agent, a project or the organisation."""
        return await self._readers.run(org, partial(_gate_sight, org=org, key=key, at=at))

    async def stopping(self, org: Org, sight: Sight, at: int, *, most: int) -> list[Seen]:
        """Return the budgets that stop their scope now."""

        def work(connection: Connection) -> list[Seen]:
            stoppers = (one for one in lists.each_budget(connection, org) if one.stop and sight.shows(one))
            seen = (_seen(connection, org, one, at) for one in stoppers)
            return list(islice((one for one in seen if stop_by(one) is not None), most))

        return await self._readers.run(org, work)

    async def knows(self, org: Org, key: GateKey) -> bool:
        """Tell whether a name was used, stopped, or has a budget; the cheapest question first."""

        def work(connection: Connection) -> bool:
            asked: Sequence[str] = _NAMED.get(key.kind, ())
            found = (connection.execute(sql, (org, key.name)).fetchone() for sql in asked)
            return not asked or any(row is not None for row in found)

        return await self._readers.run(org, work)

    async def agents(self, org: Org) -> int:
        """Return how many agents have a row of their own."""

        def work(connection: Connection) -> int:
            return int(connection.execute(_AGENTS, (org,)).fetchone()[0])

        return await self._readers.run(org, work)


def _zone(connection: Connection, org: Org) -> str:
    return str(connection.execute(_ZONE, (org,)).fetchone()[0])


def _seen(connection: Connection, org: Org, budget: Budget, at: int) -> Seen:
    """Return a budget with the window that counts at `at`, empty if a calendar begins it by itself."""
    if budget.is_template or budget.period is Period.RUN:
        return Seen(budget, None)
    window = Track("", lists.windows_around(connection, org, budget.id, at)).at(budget, at)
    is_begun = bool(window.touched_at) or not budget.period.begins_with_event
    return Seen(budget, window if is_begun else None)


def _gate_sight(connection: Connection, org: Org, key: GateKey, at: int) -> GateSight:
    call = call_behind(key)
    gates = [gate for one in gate_keys(call) if (gate := lists.gate(connection, org, one)) is not None]
    met = [
        _seen(connection, org, budget, at)
        for budget in lists.each_budget(connection, org)
        if not budget.is_template and fits(budget.scope, call)
    ]
    count, leased_until = connection.execute(_OPEN_OF[key.kind], (org, key.name)).fetchone()
    return GateSight(gates, met, count, leased_until)
