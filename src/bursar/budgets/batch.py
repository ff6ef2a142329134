"""What a batch of recorded spend means for budgets, as values between `ingestion` and `enforcement`.

    events  →  Bound  →  recorded and priced  →  Priced  →  Effects (settlements, how the senders stand)

Not here: the decisions (`settlement`), who makes them within the batch's transaction (`enforcement`).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from bursar.budgets.amounts import Amounts
from bursar.budgets.hold import Hold
from bursar.budgets.seen import WindowSeen
from bursar.budgets.settlement import Outcome
from bursar.budgets.standing import Standing
from bursar.core.errors import AppError
from bursar.core.usage import UsageEvent


class SettledAnswer(NamedTuple):
    """What an event did to the hold that it names, and the hold's windows after it."""

    hold: Hold
    outcome: Outcome
    windows: tuple[WindowSeen, ...]


Settlements = Mapping[int, SettledAnswer | AppError]
"""By position in the batch; an error where the event was not recorded for its hold's sake."""

NOTHING_SETTLED: Settlements = MappingProxyType({})


class Stop(NamedTuple):
    """Why an agent's, or everybody's, calls are stopped, for whoever sent a batch of them.

    Attributes:
        cause: `budget`, or the state of the gate: `killed`, `paused`.
        detail: A sentence for people.
        budget: The budget that is used up; None for a gate.
        resume_at: When it ends by itself, microseconds UTC; None where somebody has to end it.
    """

    cause: str
    detail: str
    budget: bytes | None = None
    resume_at: int | None = None


class AgentSeen(NamedTuple):
    """How one agent of a batch stands: stopped before the batch came, and nearest to which limit after it."""

    stop: Stop | None
    standing: Standing | None


class Seen(NamedTuple):
    """How those whose spend a batch brings stand.

    Attributes:
        organisation: The organisation's own hard budget, where it was used up before the batch came.
        agents: By name; empty where no budget and no gate exists.
    """

    organisation: Stop | None = None
    agents: Mapping[str, AgentSeen] = MappingProxyType({})

    def joined(self, later: "Seen") -> "Seen":
        """Return what two slices of one request say: the first slice a name stands in decides its stop."""
        if not self.agents:
            return later
        agents = {
            name: AgentSeen(self.agents[name].stop, seen.standing) if name in self.agents else seen
            for name, seen in {**self.agents, **later.agents}.items()
        }
        return Seen(self.organisation, agents)


NOTHING_SEEN = Seen()


class Bound(NamedTuple):
    """A batch with the names and keys that its holds lend to events.

    `refused` are the positions that may not be recorded, with the error for their sender.
    """

    events: Sequence[UsageEvent]
    refused: Mapping[int, AppError] = MappingProxyType({})


class Priced(NamedTuple):
    """One fresh event of a batch: its position, itself, and the cost that counts."""

    position: int
    event: UsageEvent
    cost_nusd: int | None


class Effects(NamedTuple):
    """What a batch did to budgets."""

    settled: Settlements
    seen: Seen


class Corrected(NamedTuple):
    """An event whose amounts are replaced: those that stood and those that stand now."""

    key: bytes
    hold: bytes | None
    old: Amounts
    new: Amounts
