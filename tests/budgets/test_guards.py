"""Run guards and breakers: loops, depth, money a minute, and stops that stay until somebody resumes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets import gate
from bursar.budgets.amounts import NOTHING, Amounts, Metric
from bursar.budgets.book import Notice
from bursar.budgets.budget import Action, Budget, Mode, Scope, Threshold
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.guards import RECENT_MAX
from bursar.budgets.hold import Granted, Request
from bursar.budgets.lease import Demand, spend_from_lease
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Reason, Refused, Stopped
from bursar.budgets.settlement import Spend
from bursar.core.periods import Period

ID = numbered(1_000)
MINUTE = HOUR // 60
RUN = Call("a", project="p", run="r")
AGENT = GateKey(GateKind.AGENT, "a")
KILL = Threshold(1_000_000, Action.KILL, latch=True)


def guard(
    metric: Metric, limit: int, *thresholds: Threshold, mode: Mode = Mode.HARD, period: Period = Period.RUN
) -> Budget:
    return Budget(
        id=ID, name="guard", limit=limit, created_at=1, metric=metric, period=period, mode=mode,
        thresholds=thresholds,
    )  # fmt: skip


def again(fingerprint: int, *, depth: int = 0) -> Amounts:
    return cost(1)._replace(fingerprint=fingerprint, depth=depth)


def stop_at(engine: Engine, key: GateKey = AGENT) -> Stop | None:
    return engine.book.gates.of(key).stop


def tripped(engine: Engine) -> list[Notice]:
    return engine.heard("guard.tripped")


# --- loops


def test_a_call_that_a_run_made_before_counts_as_a_loop_and_a_new_one_does_not() -> None:
    engine = Engine(guard(Metric.LOOPS, 2))
    for fingerprint in (7, 8, 7, 9, 8):
        engine.hold(again(fingerprint), RUN)
    refused = engine.ask(engine.request(again(9), RUN))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.held, refused.asked, refused.limit) == (Reason.NO_ROOM, 2, 1, 2)
    engine.hold(again(10), RUN)
    engine.hold(again(9), RUN._replace(run="another"))


def test_a_call_without_a_fingerprint_is_never_a_loop() -> None:
    engine = Engine(guard(Metric.LOOPS, 1))
    for _ in range(5):
        engine.hold(cost(1), RUN)
    assert (engine.window(ID, "r").held, engine.window(ID, "r").recent) == (0, ())


def test_a_loop_moves_from_held_to_settled_whatever_the_settlement_says() -> None:
    engine = Engine(guard(Metric.LOOPS, 5))
    first, second = (engine.hold(again(2**63 - 1), RUN) for _ in range(2))
    assert engine.window(ID, "r").held == 1
    engine.settle(second, cost(1))
    engine.settle(first, again(2**63 - 1))
    window = engine.window(ID, "r")
    assert (window.settled, window.held, window.overrun, window.recent) == (1, 0, 0, (2**63 - 1,) * 2)


def test_a_voided_loop_gives_its_room_back() -> None:
    engine = Engine(guard(Metric.LOOPS, 1))
    engine.hold(again(7), RUN)
    engine.void(engine.hold(again(7), RUN))
    engine.hold(again(7), RUN)
    assert isinstance(engine.ask(engine.request(again(7), RUN)), Refused)


def test_a_window_remembers_its_latest_calls_only() -> None:
    engine = Engine(guard(Metric.LOOPS, 1))
    for fingerprint in range(1, RECENT_MAX + 2):
        engine.hold(again(fingerprint), RUN)
    assert engine.window(ID, "r").recent == tuple(range(2, RECENT_MAX + 2))
    engine.hold(again(1), RUN)
    assert engine.window(ID, "r").held == 0


def test_loops_that_did_not_ask_are_counted_and_stop_the_next_call() -> None:
    engine = Engine(guard(Metric.LOOPS, 1, period=Period.HOURLY))
    for _ in range(3):
        engine.post(again(7))
    window = engine.window(ID)
    assert (window.settled, window.unheld) == (2, 2)
    assert isinstance(engine.ask(engine.request(again(8))), Refused)
    engine.advance(HOUR)
    engine.hold(again(7))
    assert engine.window(ID).recent == (7,)


def test_a_budget_that_only_watches_counts_loops_when_calls_are_settled() -> None:
    engine = Engine(guard(Metric.LOOPS, 2, Threshold(500_000), mode=Mode.SOFT))
    for _ in range(2):
        engine.settle(engine.hold(again(7), RUN), cost(1))
    assert engine.window(ID, "r").settled == 1
    assert [n.share_ppm for n in engine.heard("budget.threshold")] == [500_000]


def test_a_loop_stays_counted_when_its_event_is_corrected() -> None:
    engine = Engine(guard(Metric.LOOPS, 9, period=Period.DAILY))
    engine.post(again(7))
    spend = engine.post(again(7))
    engine.correct(spend.key, spend.amounts, NOTHING)
    assert engine.window(ID).settled == engine.posted()[engine.window(ID).key] == 1


def test_under_a_limit_of_loops_every_call_has_to_ask() -> None:
    engine = Engine(guard(Metric.LOOPS, 100))
    answer = engine.acquire(Demand(cost(1)), RUN)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.SINGLE_HOLDS_ONLY


# --- depth


def test_a_run_nested_deeper_than_the_limit_is_refused_and_nothing_is_added_up() -> None:
    engine = Engine(guard(Metric.DEPTH, 3))
    for _ in range(9):
        engine.settle(engine.hold(again(0, depth=3), RUN), again(0, depth=3))
    refused = engine.ask(engine.request(again(0, depth=4), RUN))
    assert isinstance(refused, Refused)
    assert (refused.settled, refused.held, refused.asked) == (0, 0, 4)
    assert (engine.window(ID, "r").settled, engine.window(ID, "r").held) == (0, 0)


def test_depth_raises_its_thresholds_once_when_it_is_granted() -> None:
    engine = Engine(guard(Metric.DEPTH, 10, Threshold(500_000), Threshold(1_000_000)))
    for depth in (4, 5, 6, 10, 10):
        engine.hold(again(0, depth=depth), RUN)
    assert [(n.share_ppm, n.amount) for n in engine.heard("budget.threshold")] == [
        (500_000, 5), (1_000_000, 10),
    ]  # fmt: skip


def test_depth_that_did_not_ask_raises_an_alert_and_refuses_nobody() -> None:
    engine = Engine(guard(Metric.DEPTH, 3, Threshold(1_000_000)))
    engine.post(again(0, depth=9), RUN)
    assert [n.amount for n in engine.heard("budget.threshold")] == [9]
    assert engine.heard("budget.exceeded") == []
    engine.hold(again(0, depth=3), RUN)


def test_a_budget_that_only_watches_depth_hears_of_it_at_settlement() -> None:
    engine = Engine(guard(Metric.DEPTH, 4, Threshold(1_000_000), mode=Mode.SOFT))
    engine.settle(engine.hold(again(0, depth=5), RUN), cost(1))
    assert [n.amount for n in engine.heard("budget.threshold")] == [5]


def test_a_lease_holds_nothing_of_a_depth_but_may_not_be_deeper() -> None:
    budget = guard(Metric.DEPTH, 2, Threshold(1_000_000))
    engine = Engine(budget)
    assert isinstance(engine.acquire(Demand(cost(1)._replace(depth=3)), RUN), Refused)
    answer = engine.acquire(Demand(cost(1)._replace(depth=2)), RUN)
    assert isinstance(answer, Granted)
    assert [leg.amount for leg in answer.hold.legs] == [0]
    spend = Spend(b"k", RUN, again(0, depth=2), engine.wall)
    matched = engine.index.matching(RUN)
    engine.commit(lambda: spend_from_lease(engine.book, answer.hold, spend, matched, engine.now()))
    assert [n.amount for n in engine.heard("budget.threshold")] == [2]


def test_a_smaller_grant_is_still_the_same_call() -> None:
    engine = Engine(guard(Metric.LOOPS, 1), msgspec.structs.replace(guard(Metric.COST, 50), id=numbered(1)))
    request = Request(
        hold_id=numbered(5), key=numbered(5), digest=b"d", call=RUN, amounts=again(7)._replace(cost_nusd=90),
        max_output_tokens=90, sized=cost, allow_smaller=True,
    )  # fmt: skip
    answer = engine.ask(request)
    assert isinstance(answer, Granted)
    assert (answer.hold.amounts.cost_nusd, answer.hold.amounts.fingerprint) == (50, 7)


# --- money a minute, and latches


def test_a_limit_by_the_minute_is_free_again_in_the_next_one() -> None:
    engine = Engine(guard(Metric.COST, 10, period=Period.MINUTE))
    engine.hold(cost(10))
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    window = engine.window(ID)
    assert (window.starts_at % MINUTE, window.ends_at - window.starts_at) == (0, MINUTE)
    engine.advance(MINUTE)
    engine.hold(cost(10))


def test_a_breaker_stops_the_agent_beyond_the_window_until_somebody_resumes_it() -> None:
    engine = Engine(guard(Metric.COST, 10, KILL, mode=Mode.SOFT, period=Period.MINUTE))
    engine.settle(engine.hold(cost(10)), cost(10))
    engine.advance(HOUR)
    answer = engine.ask(engine.request(cost(1)))
    assert isinstance(answer, Stopped)
    assert (answer.state, answer.owner, answer.resume_at) == (GateState.KILLED, Owner.GUARD, None)
    assert "guard reached 100 % of its limit" in answer.reason
    assert isinstance(engine.ask(engine.request(cost(1), Call("b"))), Granted)
    gate.resume(engine.book.gates, AGENT, Owner.MANUAL)
    engine.hold(cost(1))


def test_after_a_resume_the_same_window_trips_no_second_time() -> None:
    engine = Engine(guard(Metric.COST, 10, KILL, mode=Mode.SOFT, period=Period.DAILY))
    engine.post(cost(10))
    gate.resume(engine.book.gates, AGENT, Owner.MANUAL)
    engine.settle(engine.hold(cost(5)), cost(5))
    assert stop_at(engine) is None
    assert len(tripped(engine)) == len(engine.heard("budget.threshold")) == 1
    engine.advance(24 * HOUR)
    engine.post(cost(10))
    assert len(tripped(engine)) == 2


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (RUN, AGENT),
        (Call(project="p"), GateKey(GateKind.PROJECT, "p")),
        (Call(user="u"), GateKey(GateKind.ORGANISATION, "")),
    ],
)
def test_a_latch_stops_the_nearest_gate_of_the_caller(call: Call, key: GateKey) -> None:
    engine = Engine(guard(Metric.COST, 10, KILL, period=Period.DAILY))
    engine.post(cost(10), call)
    assert set(engine.book.gates.stopped) == {key}
    [notice] = tripped(engine)
    assert (notice.agent, notice.amount, notice.share_ppm) == (call.agent, 10, 1_000_000)


def test_a_refusal_for_want_of_room_trips_the_latch_once() -> None:
    engine = Engine(guard(Metric.COST, 10, KILL, Threshold(2_000_000, Action.PAUSE, latch=True)))
    engine.hold(cost(8), RUN)
    for _ in range(2):
        assert isinstance(engine.ask(engine.request(cost(3), RUN)), Refused)
        gate.resume(engine.book.gates, AGENT, Owner.MANUAL)
    assert [(n.amount, n.share_ppm) for n in tripped(engine)] == [(11, 1_000_000)]


def test_a_run_that_begins_too_deep_is_killed_by_its_first_call() -> None:
    engine = Engine(guard(Metric.DEPTH, 3, KILL))
    assert isinstance(engine.ask(engine.request(again(0, depth=4), RUN)), Refused)
    assert isinstance(engine.ask(engine.request(cost(1), RUN)), Stopped)
    engine.check_stored()


def test_a_refused_call_begins_no_session_not_even_for_a_latch() -> None:
    engine = Engine(guard(Metric.COST, 3, KILL, period=Period.SESSION_5H))
    assert isinstance(engine.ask(engine.request(cost(4))), Refused)
    assert engine.book.windows == {}
    assert stop_at(engine) is None


def test_an_alert_at_the_same_share_does_not_hide_a_latch() -> None:
    engine = Engine(guard(Metric.COST, 10, Threshold(1_000_000), KILL, mode=Mode.SOFT))
    engine.post(cost(10), RUN)
    assert len(engine.heard("budget.threshold")) == len(tripped(engine)) == 1


def test_a_pause_does_not_soften_a_guards_kill() -> None:
    pause = Threshold(2_000_000, Action.PAUSE, latch=True)
    engine = Engine(guard(Metric.COST, 10, KILL, pause, mode=Mode.SOFT))
    engine.post(cost(10), RUN)
    engine.post(cost(10), RUN)
    stop = stop_at(engine)
    assert stop is not None
    assert stop.state is GateState.KILLED
    assert len(tripped(engine)) == 2


def test_a_lowered_limit_leaves_the_latch_to_the_next_call() -> None:
    engine = Engine(guard(Metric.COST, 100, Threshold(500_000), KILL, period=Period.DAILY))
    engine.post(cost(40))
    engine.change_limit(ID, 30)
    assert [n.share_ppm for n in engine.heard("budget.threshold")] == [500_000]
    assert stop_at(engine) is None
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    assert stop_at(engine) is not None


def test_a_guard_of_another_scope_is_not_asked() -> None:
    budget = msgspec.structs.replace(guard(Metric.COST, 1, KILL), scope=Scope(agent="b"))
    engine = Engine(budget)
    engine.post(cost(5), RUN)
    assert tripped(engine) == []


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=120))
def test_loops_are_the_calls_that_are_among_the_latest(made: list[tuple[int, bool]]) -> None:
    engine = Engine(guard(Metric.LOOPS, 10_000, period=Period.TOTAL))
    told: list[int] = []
    loops = 0
    for fingerprint, has_asked in made:
        loops += fingerprint in told[-RECENT_MAX:]
        told += [fingerprint] if fingerprint else []
        if has_asked:
            engine.settle(engine.hold(again(fingerprint)), cost(1))
        else:
            engine.post(again(fingerprint))
    assert sum(window.used for window in engine.book.windows.values()) == loops
