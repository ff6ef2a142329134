"""`enforcement.reading.BudgetReader` over the one file: short reads, each from one snapshot.

Not here: the statements of lists (`budget_lists`), what a commit loads (`budgets`).
"""

from collections.abc import Iterable, Sequence
from functools import cache, partial
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
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.ports import Connection, Readers
from bursar.storage.sql.walks import together

_ZONE = "SELECT zone FROM organisation WHERE org = ?"
# Number 1 stands for those beyond the cap.
_AGENTS = "SELECT count(*) FROM agent WHERE org = ? AND agent > 1"
# Named, as SQLite would rather look through all holds that there ever were.
_FROM_OPEN = "FROM hold INDEXED BY hold_open WHERE org = ? AND state = 'open'"
_OPEN = f"SELECT count(*), max(CASE WHEN kind = 'lease' THEN deadline_at END) {_FROM_OPEN}"


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
            return _seen(connection, org, list(islice(shown, most)), at)

        return await self._readers.run(org, work)

    async def budget(self, org: Org, budget_id: bytes, at: int) -> Seen | None:
        """Return one active budget."""

        def work(connection: Connection) -> Seen | None:
            budget = lists.budget(connection, org, budget_id)
            return None if budget is None else _seen(connection, org, [budget], at)[0]

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
            seen = (one for some in together(stoppers) for one in _seen(connection, org, some, at))
            return list(islice((one for one in seen if stop_by(one) is not None), most))

        return await self._readers.run(org, work)

    async def knows(self, org: Org, key: GateKey) -> bool:
        """Tell whether a name was used, stopped, or has a budget; the cheapest question first."""

        def work(connection: Connection) -> bool:
            asked = _named(connection.dialect).get(key.kind, ())
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


@cache
def _named(dialect: Dialect) -> dict[GateKind, tuple[str, ...]]:
    """Return what asks whether there is a name, the cheapest question first."""
    return {
        kind: (
            f"SELECT 1 FROM {kind} WHERE org = ? AND name = ?",
            f"SELECT 1 FROM gate WHERE org = ? AND kind = '{kind}' AND name = ?",
            f"SELECT 1 FROM budget WHERE org = ? AND {dialect.member('scope', kind)} = ? LIMIT 1",
            f"SELECT 1 {_FROM_OPEN} AND {called} = ? LIMIT 1",
        )
        for kind, called in _called(dialect).items()
    }


@cache
def _open_of(dialect: Dialect) -> dict[GateKind, str]:
    """Return what counts the open holds behind a gate."""
    named = {kind: f"{_OPEN} AND {called} = ?" for kind, called in _called(dialect).items()}
    return {GateKind.ORGANISATION: f"{_OPEN} AND ? = ''", **named}


def _called(dialect: Dialect) -> dict[GateKind, str]:
    """Return the names in a call, which is stored as the list of its fields."""
    return {GateKind.AGENT: dialect.item("call", 0), GateKind.PROJECT: dialect.item("call", 1)}


def _seen(connection: Connection, org: Org, budgets: Sequence[Budget], at: int) -> list[Seen]:
    """Return budgets with the window that counts at `at`, empty if a calendar begins it by itself."""
    counting = [one.id for one in budgets if not one.is_template and one.period is not Period.RUN]
    windows = lists.windows_around(connection, org, counting, at)
    counted = set(counting)
    return [
        Seen(one, _window(one, windows.get(one.id, ()), at) if one.id in counted else None) for one in budgets
    ]


def _window(budget: Budget, near: Iterable[Window], at: int) -> Window | None:
    window = Track("", near).at(budget, at)
    is_begun = bool(window.touched_at) or not budget.period.begins_with_event
    return window if is_begun else None


def _gate_sight(connection: Connection, org: Org, key: GateKey, at: int) -> GateSight:
    call = call_behind(key)
    gates = [gate for one in gate_keys(call) if (gate := lists.gate(connection, org, one)) is not None]
    met = [
        budget
        for budget in lists.each_budget(connection, org)
        if not budget.is_template and fits(budget.scope, call)
    ]
    sql = _open_of(connection.dialect)[key.kind]
    count, leased_until = connection.execute(sql, (org, key.name)).fetchone()
    return GateSight(gates, _seen(connection, org, met, at), count, leased_until)
