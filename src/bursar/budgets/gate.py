"""Stops of an agent, a project or the organisation: who set them, and who may end them.

    kill, pause, resume  →  Gate  →  hold.authorise, ingestion

Each owner has one place in a gate, so that a person's stop and a guard's stand beside
each other and ending one leaves the other. A stop by a *budget* is not kept here: it
follows from its window while that is current and exceeded (`hold.budget_stop`), so
there is nothing to reset when the window ends or the limit is raised.

Not here: telling clients, which reads `epoch`.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from bursar.budgets.matching import Call
from bursar.core.errors import Denied


class GateKind(StrEnum):
    """What a gate stands before. Stored."""

    ORGANISATION = "organisation"
    PROJECT = "project"
    AGENT = "agent"


class GateState(StrEnum):
    """Stored."""

    ALIVE = "alive"
    PAUSED = "paused"
    KILLED = "killed"


class Owner(StrEnum):
    """Who set a stop. Stored. A person's stop is ended by a person only."""

    MANUAL = "manual"
    BUDGET = "budget"
    SYSTEM = "system"
    GUARD = "guard"


class GateKey(NamedTuple):
    """Kind and name; the organisation's own gate has an empty name."""

    kind: GateKind
    name: str


class Stop(msgspec.Struct, frozen=True):
    """One owner's stop: since when, by whom, and why."""

    owner: Owner
    state: GateState
    at: int
    reason: str = ""
    actor: str = ""


class Gate(msgspec.Struct, frozen=True):
    """The stops of one agent, project or organisation. `epoch` grows with every change."""

    key: GateKey
    stops: tuple[Stop, ...] = ()
    epoch: int = 0

    @property
    def state(self) -> GateState:
        """The most severe of its stops."""
        return self.stop.state if self.stop else GateState.ALIVE

    @property
    def stop(self) -> Stop | None:
        """The stop that is told to callers: a kill before a pause, then the oldest."""
        return min(self.stops, key=lambda s: (s.state is not GateState.KILLED, s.at), default=None)


class Gates:
    """The loaded gates; one that was not loaded, or is not there, is alive."""

    def __init__(self) -> None:
        self.stopped: dict[GateKey, Gate] = {}
        self.changed: dict[GateKey, Gate] = {}
        self._epochs: dict[GateKey, int] = {}

    def load(self, gate: Gate) -> None:
        """Take a gate from storage."""
        self._epochs[gate.key] = gate.epoch
        if gate.stops:
            self.stopped[gate.key] = gate
        else:
            self.stopped.pop(gate.key, None)

    def of(self, key: GateKey) -> Gate:
        """Return a gate, alive if nobody ever stopped it."""
        return self.stopped.get(key) or Gate(key, epoch=self._epochs.get(key, 0))

    def put(self, gate: Gate) -> None:
        """Change a gate and have it written by this commit."""
        self.load(gate)
        self.changed[gate.key] = gate

    def stopping(self, call: Call) -> Gate | None:
        """Return the gate that stops a call: the organisation's, the project's or the agent's."""
        if not self.stopped:
            return None
        found = [self.stopped[key] for key in gate_keys(call) if key in self.stopped]
        killed = [gate for gate in found if gate.state is GateState.KILLED]
        return next(iter(killed or found), None)


def gate_keys(call: Call) -> list[GateKey]:
    """Return the gates that a call passes, in the order of locks."""
    keys = [GateKey(GateKind.ORGANISATION, "")]
    if call.project:
        keys.append(GateKey(GateKind.PROJECT, call.project))
    if call.agent:
        keys.append(GateKey(GateKind.AGENT, call.agent))
    return keys


def stop(gates: Gates, key: GateKey, new: Stop) -> Gate:
    """Stop a gate for one owner; its earlier stop is replaced, other owners' stay.

    After the commit no call behind it is granted on any process. Setting the same stop
    again changes nothing, so a repeated request is harmless.

    Raises:
        ValueError: A stop that is none, or a budget's, which is derived and never set.
    """
    if new.state is GateState.ALIVE or new.owner is Owner.BUDGET:
        raise ValueError(new)
    gate = gates.of(key)
    same = next((s for s in gate.stops if s.owner is new.owner), None)
    if same is not None and (same.state, same.reason, same.actor) == (new.state, new.reason, new.actor):
        return gate
    others = tuple(s for s in gate.stops if s.owner is not new.owner)
    changed = Gate(key, (*others, new), gate.epoch + 1)
    gates.put(changed)
    return changed


def resume(gates: Gates, key: GateKey, by: Owner) -> Gate:
    """End stops: a person (`manual`) ends all, a guard or the system only its own.

    Resuming what is not stopped changes nothing.

    Raises:
        Denied: What stands there is not the caller's to end.
    """
    gate = gates.of(key)
    left = () if by is Owner.MANUAL else tuple(s for s in gate.stops if s.owner is not by)
    if gate.stops and left == gate.stops:
        owners = ", ".join(s.owner for s in left)
        raise Denied(
            f"the stop of {key.name or 'the organisation'} belongs to {owners}; only they may end it"
        )
    if not gate.stops:
        return gate
    changed = Gate(key, left, gate.epoch + 1)
    gates.put(changed)
    return changed
