"""What can be read of budgets without deciding anything, and what that needs from a storage engine.

    http (lists, one budget, an agent, incidents)  →  BudgetReader  →  values of `budgets`

Each call reads one snapshot of one organisation. Not here: changes (`changes`), decisions (`desk`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.alert import Alert
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey
from bursar.budgets.incident import Decision, Incident
from bursar.budgets.window import Window, WindowKey
from bursar.core.ids import Org


class Sight(NamedTuple):
    """Whose budgets are looked for: those that may count a call of these names; empty means any.

    Attributes:
        api_key: The row number of a key that may see no other key's budgets, 0 for any.
        is_template: Only templates, or only others; None for both.
    """

    agent: str = ""
    project: str = ""
    api_key: int = 0
    is_template: bool | None = None

    def shows(self, budget: Budget) -> bool:
        """Tell whether a budget is among them."""
        scope = budget.scope
        return (
            (not self.agent or scope.agent in {"", self.agent})
            and (not self.project or scope.project in {"", self.project})
            and (not self.api_key or scope.api_key in {0, self.api_key})
            and self.is_template in {None, budget.is_template}
        )


EVERYTHING = Sight()


class Seen(NamedTuple):
    """A budget, and the window that counts at the moment it is looked at.

    `window` is None where there is none: a template, a budget per run, a session that nobody began.
    A calendar window that nothing has touched yet is shown empty.
    """

    budget: Budget
    window: Window | None


class SeenIncident(NamedTuple):
    """An incident with its budget, which may be ended by now, and its window as it is now."""

    incident: Incident
    budget: Budget
    window: Window


class Approval(NamedTuple):
    """What a person decided about an incident, and when."""

    at: int
    decision: Decision


class GateSight(NamedTuple):
    """What stands before an agent, a project or the organisation.

    Attributes:
        gates: Its own gate and the organisation's, where they were ever stopped.
        budgets: Those that would count a call that gives no other name.
        open_holds: How many calls and leases behind it are under way.
        leased_until: When the last of its leases ends, None without one.
    """

    gates: Sequence[Gate]
    budgets: Sequence[Seen]
    open_holds: int
    leased_until: int | None


class BudgetReader(Protocol):
    """Budgets, their windows, gates and incidents, as values."""

    async def zone(self, org: Org) -> str:
        """Return the IANA name of the organisation's zone."""
        ...

    async def budgets(self, org: Org, sight: Sight, at: int, *, after: bytes, most: int) -> Sequence[Seen]:
        """Return active budgets in order of id, from behind `after`."""
        ...

    async def budget(self, org: Org, budget_id: bytes, at: int) -> Seen | None:
        """Return one active budget."""
        ...

    async def windows(self, org: Org, before: WindowKey, *, most: int) -> Sequence[Window]:
        """Return windows of a budget (of one run), newest first, all earlier than `before`."""
        ...

    async def alerts(self, org: Org, budget_id: bytes, *, before: bytes, most: int) -> Sequence[Alert]:
        """Return alerts of a budget, newest first, all older than `before`."""
        ...

    async def incidents(
        self, org: Org, sight: Sight, *, is_open: bool | None, before: bytes, most: int
    ) -> Sequence[SeenIncident]:
        """Return incidents of the budgets in sight, newest first; `is_open` None for all."""
        ...

    async def incident(self, org: Org, incident_id: bytes) -> SeenIncident | None:
        """Return one incident."""
        ...

    async def approvals(self, org: Org, incident_id: bytes) -> Sequence[Approval]:
        """Return what was decided about an incident, oldest first."""
        ...

    async def gates(self, org: Org, *, after: tuple[str, str], most: int) -> Sequence[Gate]:
        """Return the gates that are stopped now, in order of kind and name."""
        ...

    async def gate(self, org: Org, key: GateKey, at: int) -> GateSight:
        """Return what stands before an agent, a project or the organisation."""
        ...

    async def stopping(self, org: Org, sight: Sight, at: int, *, most: int) -> Sequence[Seen]:
        """Return the budgets that stop their scope now, in order of id."""
        ...

    async def knows(self, org: Org, key: GateKey) -> bool:
        """Tell whether an agent or a project was ever used, was stopped, or has a budget."""
        ...

    async def agents(self, org: Org) -> int:
        """Return how many agents the organisation has."""
        ...
