"""How all agents of an organisation stand: stopped, near the end of their budgets, or free.

    gate, budget, budget_window, alert_config  →  Standings.of(name)

Each table is read once for all agents, as an organisation may have a budget for each of thousands. What
stops a call is decided where holds are (`enforcement.stops`), so a list says what an authorise would.
"""

from collections.abc import Iterable
from fractions import Fraction

from bursar.analytics.agents import Standing, Status
from bursar.budgets.budget import Budget, ScopeKind
from bursar.budgets.gate import Gate, Gates, GateState
from bursar.budgets.matching import Call
from bursar.budgets.window import Window
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.enforcement.reading import Seen
from bursar.enforcement.stops import stop_by
from bursar.storage.sql import budget_lists as lists
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.ports import Connection

# Named, as only this index has nothing but windows that may still count.
_RUNNING = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window INDEXED BY budget_window_running
    WHERE org = ? AND state <> 'closed' AND member = '' AND starts_at <= ? AND ends_at > ?"""
_KILL_RULES = "SELECT DISTINCT agent FROM alert_config WHERE org = ? AND channel = 'kill'"
_STATUS = {GateState.PAUSED: Status.PAUSED, GateState.KILLED: Status.KILLED}


class Standings:
    """Everything that bounds the agents of one organisation at one moment.

    Args:
        gates: All that are stopped.
        budgets: The active ones that count every call of an agent, or of everybody, with their windows.
        killed_by_rule: Names of agents whose clients stop them by a rule of their own.
    """

    def __init__(self, gates: Iterable[Gate], budgets: Iterable[Seen], killed_by_rule: set[str]) -> None:
        self._gates = Gates()
        for gate in gates:
            self._gates.load(gate)
        self._own: dict[str, list[Seen]] = {}
        for seen in budgets:
            self._own.setdefault(seen.budget.scope.agent, []).append(seen)
        self._everybody = _stopped(self._own.pop("", []))
        self._killed_by_rule = killed_by_rule

    def of(self, agent: str) -> Standing:
        """Return how an agent stands; an unknown one is only bound by what bounds everybody."""
        own = self._own.get(agent, ())
        if not own and not self._gates.stopped:  # thousands of agents, most of them free
            return Standing(self._everybody, has_kill_switch=agent in self._killed_by_rule)
        gate = self._gates.stopping(Call(agent=agent))
        stopped = self._everybody if gate is None else _STATUS[gate.state]
        stopped = stopped or _stopped(own)
        nearest = _nearest(own)
        return Standing(
            stopped,
            None if nearest is None else _limit(nearest),
            0 if nearest is None else _settled(nearest),
            agent in self._killed_by_rule or any(_has_kill_switch(seen.budget) for seen in own),
        )


def standings(connection: Connection, org: Org, at: int) -> Standings:
    """Return how the agents of `org` stand at `at`."""
    budgets = _counting(connection, org, at, ScopeKind.AGENT, ScopeKind.ORGANISATION)
    killed_by_rule = {str(agent) for (agent,) in connection.execute(_KILL_RULES, (org,))}
    stopped = (gate for gate in lists.each_gate(connection, org) if gate.stops)
    return Standings(stopped, budgets, killed_by_rule)


def nearest_of_organisation(connection: Connection, org: Org, at: int) -> Seen | None:
    """Return the organisation's own cost budget that is nearest to its end, None without one."""
    return _nearest(_counting(connection, org, at, ScopeKind.ORGANISATION))


def _counting(connection: Connection, org: Org, at: int, *kinds: ScopeKind) -> list[Seen]:
    """Return the active budgets of those kinds of scope with the window that counts at `at`."""
    budgets = [
        budget
        for budget in lists.each_budget(connection, org)
        if not budget.is_template and budget.scope.kind in kinds
    ]
    windows: dict[bytes, Window] = {}
    for row in connection.execute(_RUNNING, (org, at, at)) if budgets else ():
        window = rows.window_of(tuple(row))
        windows[window.key.budget] = window
    return [Seen(budget, windows.get(budget.id)) for budget in budgets]


def _nearest(budgets: Iterable[Seen]) -> Seen | None:
    """Return the cost budget of which the largest share is spent; those per run have no one share."""
    counted = [seen for seen in budgets if seen.budget.is_money and seen.budget.period is not Period.RUN]
    return counted[0] if len(counted) == 1 else max(counted, key=_share, default=None)


def _stopped(budgets: Iterable[Seen]) -> Status | None:
    """Return what budgets that are used up do to their scope: the worst of it."""
    # Most budgets stop nobody: those are left out before the rules of each are worked out.
    stopping = (seen for seen in budgets if seen.window is not None and seen.budget.stop is not None)
    found = {_STATUS[stop.stopped.state] for seen in stopping if (stop := stop_by(seen)) is not None}
    return next((status for status in (Status.KILLED, Status.PAUSED) if status in found), None)


def _has_kill_switch(budget: Budget) -> bool:
    """Tell whether a budget stops its agent by itself, not only refuses single calls."""
    return budget.stop is not None or any(threshold.latch for threshold in budget.thresholds)


def _share(seen: Seen) -> Fraction:
    return Fraction(_settled(seen), _limit(seen))


def _settled(seen: Seen) -> int:
    return 0 if seen.window is None else seen.window.settled


def _limit(seen: Seen) -> int:
    return seen.budget.limit if seen.window is None else seen.window.limit
