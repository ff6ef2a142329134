"""What stops an agent, a project or the organisation, as an authorise would be told it.

GateSight  →  standing_stop  →  answers of the gate routes, an agent's status

Not here: setting and ending stops (`changes`), the decision itself (`budgets.authorise`).
"""

from typing import NamedTuple

from bursar.budgets.authorise import budget_stop
from bursar.budgets.budget import Budget, terms_of
from bursar.budgets.gate import GateKey, GateKind, Gates
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Stopped
from bursar.budgets.window import reaches
from bursar.enforcement.reading import GateSight, Seen


class StandingStop(NamedTuple):
    """A stop, and where it stands: at a gate since a time, or by a budget until its window ends."""

    stopped: Stopped
    gate: GateKey | None = None
    since: int | None = None
    budget: Budget | None = None


def call_behind(key: GateKey) -> Call:
    """Return the barest call that passes a gate."""
    if key.kind is GateKind.AGENT:
        return Call(agent=key.name)
    return Call(project=key.name) if key.kind is GateKind.PROJECT else Call()


def standing_stop(sight: GateSight, key: GateKey) -> StandingStop | None:
    """Return what stops every call behind a gate: a gate first, then a budget; None if nothing does."""
    gates = Gates()
    for gate in sight.gates:
        gates.load(gate)
    gate_before = gates.stopping(call_behind(key))
    if gate_before is not None and gate_before.stop is not None:
        stop = gate_before.stop
        stopped = Stopped(stop.state, stop.owner, stop.reason, stop.actor)
        return StandingStop(stopped, gate_before.key, stop.at)
    return next((found for seen in sight.budgets if (found := stop_by(seen)) is not None), None)


def stop_by(seen: Seen) -> StandingStop | None:
    """Return the stop that follows from a budget's window, None if it stops nothing now."""
    terms, window = terms_of(seen.budget), seen.window
    if terms.stop is None or window is None or not reaches(window.settled, window.limit, terms.stop.at_ppm):
        return None
    return StandingStop(budget_stop(terms, window), budget=seen.budget)
