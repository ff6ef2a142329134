"""Stops and their owners: a person's is a person's, a budget's follows from its window."""

import pytest
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets.authorise import exceeded
from bursar.budgets.budget import Action, Budget, Mode, Threshold
from bursar.budgets.gate import Gate, GateKey, GateKind, Gates, GateState, Owner, Stop, resume, stop
from bursar.budgets.hold import Granted
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Stopped
from bursar.core.errors import Denied

AGENT = GateKey(GateKind.AGENT, "a")
KILL = Stop(Owner.MANUAL, GateState.KILLED, 5, "runaway", "eve")
PAUSE = Stop(Owner.GUARD, GateState.PAUSED, 4, "loop")


@pytest.mark.parametrize("key", [GateKey(GateKind.ORGANISATION, ""), GateKey(GateKind.PROJECT, "p"), AGENT])
def test_a_gate_of_each_kind_stops_the_calls_behind_it(key: GateKey) -> None:
    engine = Engine()
    stop(engine.book.gates, key, KILL)
    assert isinstance(engine.ask(engine.request(cost(1), Call("a", "p"))), Stopped)
    other = engine.ask(engine.request(cost(1), Call("b", "q")))
    assert isinstance(other, Stopped if key.kind is GateKind.ORGANISATION else Granted)


def test_two_owners_stop_beside_each_other_and_the_kill_is_told() -> None:
    gates = Gates()
    stop(gates, AGENT, PAUSE)
    assert stop(gates, AGENT, KILL).state is GateState.KILLED
    resume(gates, AGENT, Owner.GUARD)
    gate = gates.of(AGENT)
    assert (gate.stops, gate.epoch) == ((KILL,), 3)


def test_only_a_person_ends_a_persons_stop_and_a_person_ends_all() -> None:
    gates = Gates()
    stop(gates, AGENT, KILL)
    with pytest.raises(Denied):
        resume(gates, AGENT, Owner.GUARD)
    stop(gates, AGENT, PAUSE)
    assert resume(gates, AGENT, Owner.MANUAL).state is GateState.ALIVE
    assert gates.stopping(Call("a")) is None


def test_the_same_stop_again_changes_nothing_and_epochs_only_grow() -> None:
    gates = Gates()
    stop(gates, AGENT, KILL)
    assert stop(gates, AGENT, Stop(Owner.MANUAL, GateState.KILLED, 9, "runaway", "eve")).epoch == 1
    resume(gates, AGENT, Owner.MANUAL)
    assert resume(gates, AGENT, Owner.MANUAL).epoch == 2
    assert stop(gates, AGENT, KILL).epoch == 3


def test_gates_are_kept_over_a_restart() -> None:
    gates = Gates()
    stop(gates, AGENT, KILL)
    again = Gates()
    for gate in gates.changed.values():
        again.load(gate)
    assert again.of(AGENT) == Gate(AGENT, (KILL,), 1)
    assert again.stopping(Call("a")) == gates.of(AGENT)


@pytest.mark.parametrize(
    "wrong", [Stop(Owner.BUDGET, GateState.KILLED, 1), Stop(Owner.MANUAL, GateState.ALIVE, 1)]
)
def test_a_budgets_stop_is_never_set_by_hand(wrong: Stop) -> None:
    with pytest.raises(ValueError, match="Stop"):
        stop(Gates(), AGENT, wrong)


@pytest.mark.parametrize(
    ("action", "state"), [(Action.PAUSE, GateState.PAUSED), (Action.KILL, GateState.KILLED)]
)
def test_a_budgets_stop_lasts_while_its_window_is_exceeded(action: Action, state: GateState) -> None:
    budget = Budget(
        id=numbered(1), limit=100, created_at=1, mode=Mode.SOFT, thresholds=(Threshold(900_000, action),)
    )
    engine = Engine(budget)
    engine.post(cost(90))
    answer = engine.ask(engine.request(cost(1)))
    assert isinstance(answer, Stopped)
    assert (answer.state, answer.owner) == (state, Owner.BUDGET)
    assert answer.resume_at == engine.window(budget.id).ends_at
    engine.change_limit(budget.id, 200)
    assert isinstance(engine.ask(engine.request(cost(1))), Granted)
    engine.change_limit(budget.id, 100)
    assert isinstance(engine.ask(engine.request(cost(1))), Stopped)
    engine.advance(5 * HOUR)
    assert isinstance(engine.ask(engine.request(cost(1))), Granted)


def test_ingest_learns_which_hard_budgets_are_spent_up() -> None:
    engine = Engine(Budget(id=numbered(1), limit=100, created_at=1))
    call = Call("a")
    for spent, expected in ((99, []), (1, [numbered(1)])):
        engine.post(cost(spent), call)
        found = exceeded(engine.book, engine.index.matching(call), call, engine.now())
        assert [terms.id for terms, _ in found] == expected
