"""Leases over a bad network, as a state machine through the desk on a file.

Messages are lost, doubled, delayed and overtaken; clients pause in the middle of a call, crash, have
slow clocks; the server restarts; limits change, days end, agents are killed. After every step no
client believes to have more than the server holds for it, and nothing is above the limit.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memory_engine import CALL, HOUR, LeaseClient, cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets import gate, lease
from bursar.budgets.amounts import Amounts, Metric
from bursar.budgets.budget import Budget
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.hold import Granted, Hold, HoldState
from bursar.budgets.refusal import Stopped
from bursar.budgets.settlement import Spend
from bursar.core.periods import Period
from support.engines import Database

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
STEPS_MIN = {"sqlite": 60_000 if IS_LONG else 2_000, "postgres": 20_000 if IS_LONG else 500}
STEPS_EACH = 50
TTL = HOUR // 2
DRIFT_PPM = 1_000
AGENT = GateKey(GateKind.AGENT, CALL.agent)


def units(number: int) -> Amounts:
    return cost(number, tokens=3 * number)


class Message(NamedTuple):
    """A report on its way: how much of the journal it has, and when it was sent by its client's clock."""

    client: "Spender"
    sent: lease.Report
    entries: tuple[Spend, ...]
    upto: int
    sent_at: int


class Spender(LeaseClient):
    """A client with a clock of its own, and calls that take their time."""

    def __init__(self, engine: StoredEngine, hold: Hold, slow_ppm: int) -> None:
        self.begun = engine.monotonic
        self.slow_ppm = slow_ppm
        super().__init__(engine, hold, 0)
        self.in_flight: list[Amounts] = []

    def clock(self) -> int:
        """Its own monotonic clock, slower than the server's by up to the drift allowed for."""
        elapsed = self.engine.monotonic - self.begun
        return elapsed - elapsed * self.slow_ppm // 1_000_000

    def begin(self, worst: Amounts) -> bool:
        if self.is_stopped or self.clock() >= self.until:
            return False
        if any((worst[column] or 0) > rest for column, rest in self.rest.items()):
            return False
        for column in self.rest:
            self.rest[column] -= worst[column] or 0
        self.in_flight.append(worst)
        return True

    def finish(self, actual: Amounts) -> None:
        worst = self.in_flight.pop(0)
        for column in self.rest:
            self.rest[column] += (worst[column] or 0) - (actual[column] or 0)
        self.write(actual)

    def outstanding(self, column: int, upto: int) -> int:
        """What the server does not know of yet: calls under way and entries from `upto` on."""
        known = [*self.in_flight, *(entry.amounts for entry in self.journal[upto:])]
        return sum(amounts[column] or 0 for amounts in known)

    def message(self, demand: lease.Demand | None, *, gives: int = 0, is_final: bool = False) -> Message:
        sent = self.report_of(demand, gives=gives, is_final=is_final)
        self.is_stopped = self.is_stopped or is_final
        entries = tuple(self.journal[self.acknowledged :])
        return Message(self, sent, entries, len(self.journal), self.clock())

    def hear(self, answer: lease.Reported, message: Message) -> None:
        """Believe the answer to its latest report; one to an earlier report it waits for no more."""
        if message.sent.number != self.reports:
            return
        self.acknowledged = max(self.acknowledged, message.upto)
        if not message.sent.is_final:
            self.is_stopped = answer.stopped is not None or answer.hold.state is not HoldState.OPEN
        for leg in answer.hold.legs:
            self.rest[leg.column] = max(0, leg.held - self.outstanding(leg.column, message.upto))
        if answer.is_renewed:
            self.until = message.sent_at + self.ttl - self.ttl * DRIFT_PPM // 1_000_000


class Machine(RuleBasedStateMachine):
    steps = 0
    files: Files

    def __init__(self) -> None:
        super().__init__()
        self.engine = StoredEngine(self.files)
        self.clients: list[Spender] = []
        self.wire: list[Message] = []
        self.dead: list[Spender] = []
        self.all: list[Spender] = []
        self.killed_at: int | None = None
        self.has_lowered = False

    @initialize(limit=st.integers(60, 300), tokens=st.integers(200, 900))
    def begin(self, limit: int, tokens: int) -> None:
        for number, metric, most in ((901, Metric.COST, limit), (902, Metric.TOKENS_TOTAL, tokens)):
            budget = Budget(id=numbered(number), limit=most, created_at=1, metric=metric, period=Period.DAILY)
            self.engine.create(budget)

    # --- clients

    @precondition(lambda self: len(self.clients) < 5)
    @rule(worst=st.integers(1, 4), rate=st.integers(0, 3), slow=st.integers(0, DRIFT_PPM))
    def acquire(self, worst: int, rate: int, slow: int) -> None:
        answer = self.engine.acquire(lease.Demand(units(worst), units(rate)))
        assert isinstance(answer, Stopped) is (self.killed_at is not None)  # I12
        if isinstance(answer, Granted):
            client = Spender(self.engine, answer.hold, slow)
            client.until = client.ttl - client.ttl * DRIFT_PPM // 1_000_000
            self.clients.append(client)
            self.all.append(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), worst=st.integers(1, 4), calls=st.integers(1, 6))
    def begin_calls(self, data: st.DataObject, worst: int, calls: int) -> None:
        client = data.draw(st.sampled_from(self.clients))
        for _ in range(calls):
            if client.begin(units(worst)) and self.killed_at is not None:
                assert self.engine.monotonic - self.killed_at <= TTL  # I12, cut off

    @precondition(lambda self: any(client.in_flight for client in self.clients))
    @rule(data=st.data(), share=st.integers(0, 2))
    def finish_a_call(self, data: st.DataObject, share: int) -> None:
        """With nothing, half, or all of its worst case; perhaps long after it should have ended."""
        client = data.draw(st.sampled_from([one for one in self.clients if one.in_flight]))
        client.finish(units((client.in_flight[0].cost_nusd or 0) * share // 2))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), gives=st.integers(0, 8), worst=st.integers(0, 4), is_final=st.booleans())
    def send(self, data: st.DataObject, gives: int, worst: int, is_final: bool) -> None:
        client = data.draw(st.sampled_from(self.clients))
        is_final = is_final and not client.in_flight
        demand = lease.Demand(units(worst), units(2)) if worst and not is_final else None
        message = client.message(demand, gives=gives, is_final=is_final)
        self.wire.append(message)
        if is_final:
            self.clients.remove(client)
            self.dead.append(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), worst=st.integers(1, 4))
    def renew(self, data: st.DataObject, worst: int) -> None:
        """A report that arrives, with an answer that does."""
        client = data.draw(st.sampled_from(self.clients))
        message = client.message(lease.Demand(units(worst), units(2)))
        client.hear(client.send(message.sent, message.entries), message)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def crash_a_client(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.clients.remove(client)
        self.dead.append(client)

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def replay_a_journal(self, data: st.DataObject) -> None:
        """The next process sends all of it under a number that was heard long ago."""
        client = data.draw(st.sampled_from(self.dead))
        client.send(lease.Report(nonce=client.nonce, number=1), client.journal)

    # --- the network

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), stays=st.booleans(), is_lost=st.booleans())
    def deliver(self, data: st.DataObject, stays: bool, is_lost: bool) -> None:
        """Any message, in any order; it may come again, and its answer may not arrive."""
        message = data.draw(st.sampled_from(self.wire))
        if not stays:
            self.wire.remove(message)
        answer = message.client.send(message.sent, message.entries)
        if answer.is_renewed:
            assert self.killed_at is None
        if not is_lost:
            message.client.hear(answer, message)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.wire.remove(data.draw(st.sampled_from(self.wire)))

    # --- the server and the world

    @rule(minutes=st.sampled_from([1, 5, 14, 29, 31, 50, 60 * 25]))
    def advance(self, minutes: int) -> None:
        self.engine.advance(minutes * HOUR // 60)

    @rule()
    def run_jobs(self) -> None:
        self.engine.run_jobs()

    @rule()
    def restart(self) -> None:
        self.engine.restart()

    @rule(asked=st.integers(1, 30))
    def ask_and_settle(self, asked: int) -> None:
        answer = self.engine.ask(self.engine.request(units(asked)))
        if isinstance(answer, Granted):
            self.engine.settle(answer.hold, units(asked))

    @rule(number=st.sampled_from([901, 902]), limit=st.integers(40, 900))
    def change_limit(self, number: int, limit: int) -> None:
        budget = self.engine.budgets[numbered(number)]
        self.has_lowered = self.has_lowered or limit < budget.limit
        self.engine.change_limit(budget.id, limit)

    @precondition(lambda self: self.killed_at is None)
    @rule()
    def kill(self) -> None:
        stop = Stop(Owner.MANUAL, GateState.KILLED, self.engine.wall, "why")
        gate.stop(self.engine.book.gates, AGENT, stop)
        self.engine.flush_gates()
        self.killed_at = self.engine.monotonic

    @precondition(lambda self: self.killed_at is not None)
    @rule()
    def resume(self) -> None:
        gate.resume(self.engine.book.gates, AGENT, Owner.MANUAL)
        self.engine.flush_gates()
        self.killed_at = None

    # --- what must hold

    @invariant()
    def no_client_believes_to_have_more_than_is_held_for_it(self) -> None:
        Machine.steps += 1
        for client in self.clients:
            hold = self.engine.book.holds[client.id]
            if client.is_stopped or hold.state not in {HoldState.OPEN, HoldState.SUSPENSE}:
                continue
            undrawn = [entry.amounts for entry in client.journal if entry.key not in self.engine.drawn]
            for leg in hold.legs:
                owed = sum(amounts[leg.column] or 0 for amounts in (*client.in_flight, *undrawn))
                assert client.rest[leg.column] + owed <= leg.held or not leg.is_open

    @invariant()
    def a_client_ends_before_the_server_lets_its_lease_lapse(self) -> None:
        for client in self.clients:
            hold = self.engine.book.holds[client.id]
            if client.clock() < client.until:
                assert hold.state is not HoldState.EXPIRED
                assert hold.state is not HoldState.SUSPENSE

    @invariant()
    def nothing_is_above_the_limit(self) -> None:  # I6, I7
        for window in self.engine.book.windows.values():
            assert window.unheld == 0
            assert window.overrun == 0 or self.has_lowered
            listed = window.overrun + window.unheld + window.lowered
            assert window.settled + window.held <= window.limit + listed

    @invariant()
    def counts_are_explained(self) -> None:  # I1, I10
        engine = self.engine
        posted, legs = engine.posted(), engine.legs()
        for key, window in engine.book.windows.items():
            own = legs.get(key, [])
            assert (window.settled, window.held) == (posted[key], sum(leg.held for leg in own))
        engine.check_stored()

    def holds(self) -> list[Hold]:
        return list(self.engine.book.holds.values())

    def teardown(self) -> None:
        """Everything is replayed in the end, and each call has counted once."""
        for client in self.all:
            client.send(lease.Report(nonce=client.nonce, number=1), client.journal)
        spent = sum(entry.amounts.cost_nusd or 0 for client in self.all for entry in client.journal)
        settled = sum(hold.settled.cost_nusd or 0 for hold in self.holds() if hold.settled is not None)
        windows = [w for key, w in self.engine.book.windows.items() if key.budget == numbered(901)]
        assert sum(window.settled for window in windows) == spent + settled


@pytest.fixture
def files(database: Database) -> Iterator[Files]:
    opened = Files(database)
    yield opened
    opened.close()


@pytest.mark.long
def test_no_bad_network_nor_any_crash_lets_a_lease_pass_the_limit(files: Files) -> None:
    steps_min = STEPS_MIN[files.database.kind]
    Machine.steps = 0
    Machine.files = files
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=steps_min // STEPS_EACH * 14 // 10,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.steps >= steps_min
