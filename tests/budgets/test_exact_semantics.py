"""Each situation of the protocol's table, by name, with its exact result."""

import pytest
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets import gate
from bursar.budgets.amounts import NOTHING, Amounts, Metric
from bursar.budgets.authorise import authorise
from bursar.budgets.budget import Budget, Mode, OnExpiry, Scope, Unpriced
from bursar.budgets.estimate import OutputSketch
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.hold import DEADLINE_MICROS, GRACE_MICROS, Granted, HoldResolved, HoldState
from bursar.budgets.matching import Call
from bursar.budgets.refusal import AgentStopped, BudgetExceeded, Reason, Refused, Stopped, raise_refusal
from bursar.budgets.settlement import Outcome
from bursar.budgets.window import WindowState
from bursar.core.errors import AmountOverflow, IdempotencyConflict, InvalidAmount, InvalidInput
from bursar.core.money import NUSD_MAX
from bursar.core.periods import Period
from bursar.core.time import micros_from_text

ID = numbered(1_000)


def budget(limit: int = 100, **fields: object) -> Budget:
    return Budget(**{"id": ID, "limit": limit, "created_at": 1, **fields})  # type: ignore[arg-type]


def daily(limit: int = 100, **fields: object) -> Engine:
    return Engine(budget(limit, **fields))


def counts(engine: Engine) -> tuple[int, int, int, int, int]:
    window = engine.window(ID)
    return window.settled, window.held, window.overrun, window.unheld, window.lowered


def test_a_server_that_dies_before_the_commit_has_made_no_hold() -> None:
    engine = daily()
    request = engine.request(cost(60))
    authorise(engine.book, request, engine.index.matching(request.call), engine.now())
    engine.restart()
    again = engine.ask(request)
    assert isinstance(again, Granted)
    assert not again.is_repeat
    assert counts(engine) == (0, 60, 0, 0, 0)


def test_a_server_that_dies_after_the_commit_gives_the_same_hold_also_when_full() -> None:
    engine = daily()
    request = engine.request(cost(60))
    first = engine.ask(request)
    engine.hold(cost(40))
    engine.restart()
    again = engine.ask(request)
    assert isinstance(first, Granted)
    assert isinstance(again, Granted)
    assert (again.hold.id, again.is_repeat) == (first.hold.id, True)
    assert counts(engine) == (0, 100, 0, 0, 0)


def test_a_client_that_dies_blocks_its_room_until_the_hold_expires() -> None:
    engine = daily()
    hold = engine.hold(cost(100))
    engine.advance(DEADLINE_MICROS + GRACE_MICROS - 1)
    engine.run_jobs()
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    engine.advance(1)
    engine.run_jobs()
    assert hold.state is HoldState.EXPIRED
    assert isinstance(engine.ask(engine.request(cost(100))), Granted)


def test_with_suspense_a_dead_clients_room_stays_taken_until_its_window_ends() -> None:
    engine = daily(on_expiry=OnExpiry.SUSPENSE)
    hold = engine.hold(cost(100))
    engine.lapse()
    assert hold.state is HoldState.SUSPENSE
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    assert [notice.amount for notice in engine.heard("hold.suspended")] == [100]
    engine.advance(24 * HOUR)
    engine.run_jobs()
    assert hold.state is HoldState.EXPIRED
    assert counts(engine) == (0, 0, 0, 0, 0)
    assert isinstance(engine.ask(engine.request(cost(100))), Granted)


def test_only_an_operator_voids_what_lies_in_suspense() -> None:
    engine = daily(on_expiry=OnExpiry.SUSPENSE)
    hold = engine.hold(cost(100))
    engine.lapse()
    with pytest.raises(HoldResolved):
        engine.void(hold)
    engine.void(hold, by_operator=True)
    assert (hold.state, counts(engine)[1]) == (HoldState.VOIDED, 0)


def test_two_copies_of_one_key_make_one_hold_and_another_body_is_a_conflict() -> None:
    engine = daily()
    request = engine.request(cost(10))
    answers = [engine.ask(request) for _ in range(3)]
    assert len({answer.hold.id for answer in answers if isinstance(answer, Granted)}) == 1
    with pytest.raises(IdempotencyConflict):
        engine.ask(engine.request(cost(10), key=request.key, digest=b"other"))
    assert counts(engine) == (0, 10, 0, 0, 0)


def test_a_refusal_repeated_with_the_same_key_is_decided_anew() -> None:
    engine = daily()
    hold = engine.hold(cost(100))
    request = engine.request(cost(1))
    assert isinstance(engine.ask(request), Refused)
    engine.void(hold)
    assert isinstance(engine.ask(request), Granted)


def test_a_settle_below_the_hold_gives_the_difference_back_at_once() -> None:
    engine = daily()
    assert engine.settle(engine.hold(cost(100)), cost(30)).outcome is Outcome.SETTLED
    assert counts(engine) == (30, 0, 0, 0, 0)
    assert isinstance(engine.ask(engine.request(cost(70))), Granted)


def test_a_settle_above_the_hold_is_recorded_in_full_and_its_excess_is_overrun() -> None:
    engine = daily()
    engine.settle(engine.hold(cost(90)), cost(150))
    assert counts(engine) == (150, 0, 60, 0, 0)
    assert [notice.amount for notice in engine.heard("budget.overrun")] == [60]
    sketch = OutputSketch()
    sketch.add(100, has_overrun=True)
    assert sketch.margin_ppm > 0


def test_a_settle_repeated_with_its_key_gives_the_first_answer() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.settle(hold, cost(30))
    assert engine.settle(hold, cost(30)).outcome is Outcome.REPEATED
    assert counts(engine) == (30, 0, 0, 0, 0)
    assert engine.heard("hold.settled_differently") == []


def test_a_second_settle_with_another_amount_is_a_conflict_and_an_alert() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.settle(hold, cost(30))
    assert engine.settle(hold, cost(31)).outcome is Outcome.CONFLICT
    assert engine.settle(hold, cost(30), key=numbered(7)).outcome is Outcome.CONFLICT
    assert counts(engine) == (30, 0, 0, 0, 0)
    assert len(engine.heard("hold.settled_differently")) == 1


def test_of_a_settle_and_an_expiry_at_the_same_instant_the_first_wins() -> None:
    settled_first, expired_first = daily(), daily()
    early, late = settled_first.hold(cost(50)), expired_first.hold(cost(50))
    for engine in (settled_first, expired_first):
        engine.advance(DEADLINE_MICROS + GRACE_MICROS)
    assert settled_first.settle(early, cost(40)).outcome is Outcome.SETTLED
    settled_first.run_jobs()
    expired_first.run_jobs()
    assert expired_first.settle(late, cost(40)).outcome is Outcome.LATE
    assert (early.state, late.state) == (HoldState.SETTLED, HoldState.SETTLED_LATE)
    assert counts(settled_first) == counts(expired_first) == (40, 0, 0, 0, 0)


def test_a_late_settle_posts_to_its_own_window_and_what_finds_no_room_is_overrun() -> None:
    engine = daily()
    hold = engine.hold(cost(60))
    engine.lapse()
    engine.hold(cost(70))
    assert engine.settle(hold, cost(60)).outcome is Outcome.LATE
    assert counts(engine) == (60, 70, 30, 0, 0)


def test_a_late_settle_out_of_suspense_is_covered() -> None:
    engine = daily(on_expiry=OnExpiry.SUSPENSE)
    hold = engine.hold(cost(60))
    engine.lapse()
    engine.settle(hold, cost(60))
    assert (hold.state, counts(engine)) == (HoldState.SETTLED_LATE, (60, 0, 0, 0, 0))


def test_a_void_after_a_settle_is_a_conflict() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.settle(hold, cost(30))
    with pytest.raises(HoldResolved):
        engine.void(hold)
    assert counts(engine) == (30, 0, 0, 0, 0)


def test_a_settle_after_a_void_counts_as_unheld_and_alerts() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.void(hold)
    engine.void(hold)
    assert engine.settle(hold, cost(30)).outcome is Outcome.UNHELD
    assert engine.settle(hold, cost(30)).outcome is Outcome.REPEATED
    assert (hold.state, counts(engine)) == (HoldState.VOIDED, (30, 0, 0, 30, 0))
    assert len(engine.heard("hold.voided_but_spent")) == 1


def test_a_raised_limit_is_effective_for_the_next_authorise() -> None:
    engine = daily()
    engine.hold(cost(100))
    assert isinstance(engine.ask(engine.request(cost(50))), Refused)
    engine.change_limit(ID, 150)
    assert isinstance(engine.ask(engine.request(cost(50))), Granted)


def test_a_limit_lowered_below_use_is_recorded_and_revokes_nothing() -> None:
    engine = daily()
    hold = engine.hold(cost(80))
    engine.change_limit(ID, 30)
    assert counts(engine) == (0, 80, 0, 0, 50)
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    engine.settle(hold, cost(80))
    assert counts(engine) == (80, 0, 0, 0, 50)
    engine.change_limit(ID, 90)
    assert counts(engine) == (80, 0, 0, 0, 0)


def test_a_deleted_budgets_window_closes_with_its_last_hold() -> None:
    engine = daily()
    hold = engine.hold(cost(80))
    engine.delete(engine.budgets[ID])
    assert engine.window(ID).state is WindowState.CLOSING
    engine.settle(hold, cost(70))
    assert engine.window(ID).state is WindowState.CLOSED
    assert counts(engine) == (70, 0, 0, 0, 0)
    assert engine.hold(cost(10**6)).legs == ()


def test_a_budget_made_while_a_hold_is_open_does_not_count_it() -> None:
    engine = Engine()
    hold = engine.hold(cost(80))
    engine.advance(HOUR)
    engine.create(budget(50, created_at=engine.wall))
    engine.settle(hold, cost(80))
    assert engine.hold(cost(50)).legs[0].window.budget == ID


def test_a_budget_made_in_the_very_instant_of_a_hold_does_not_count_it_either() -> None:
    engine = Engine()
    hold = engine.hold(cost(80))
    engine.create(budget(50, created_at=hold.created_at))
    engine.settle(hold, cost(80))
    assert engine.book.windows == {}


def test_a_budget_that_became_hard_counts_older_holds_as_unheld() -> None:
    engine = daily(mode=Mode.SOFT)
    hold = engine.hold(cost(80))
    assert hold.legs == ()
    engine.replace(budget(mode=Mode.HARD))
    engine.settle(hold, cost(130))
    assert counts(engine) == (130, 0, 0, 130, 0)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_is_none_changes_nothing(limit: int) -> None:
    engine = daily()
    engine.hold(cost(10))
    with pytest.raises(InvalidAmount):
        engine.change_limit(ID, limit)
    assert engine.window(ID).limit == 100


def test_a_hold_over_midnight_settles_in_yesterday_which_then_closes() -> None:
    engine = daily()
    hold = engine.hold(cost(80))
    yesterday = engine.window(ID)
    engine.advance(4 * HOUR)
    today = engine.hold(cost(100))
    now = engine.now()
    engine.run_jobs()
    assert now.at >= yesterday.ends_at
    assert yesterday is not engine.window(ID)
    assert engine.window(ID).held == 100
    assert hold.state is HoldState.EXPIRED
    assert today.state is HoldState.OPEN


def test_a_window_with_open_holds_is_closing_after_its_end_and_closed_after_the_last() -> None:
    engine = daily()
    engine.advance(4 * HOUR - 60_000_000)
    hold = engine.hold(cost(80))
    yesterday = engine.window(ID)
    engine.advance(120_000_000)
    engine.run_jobs()
    assert yesterday.state is WindowState.CLOSING
    engine.settle(hold, cost(70))
    assert (yesterday.state, yesterday.settled, yesterday.late) == (WindowState.CLOSED, 70, 0)
    assert len(engine.heard("budget.window_closed")) == 1
    assert engine.hold(cost(100)).legs[0].window.starts_at == yesterday.ends_at


def test_after_a_change_of_zone_the_running_window_keeps_its_ends_and_the_next_fits_on() -> None:
    engine = daily(zone="UTC")
    engine.hold(cost(10))
    running = engine.window(ID)
    engine.move_zone(ID, "Asia/Tokyo")
    assert engine.window(ID) is running
    engine.advance(5 * HOUR)
    engine.hold(cost(10))
    following = engine.window(ID)
    assert running.ends_at == following.starts_at == micros_from_text("2026-03-29T00:00:00Z")
    assert following.ends_at == micros_from_text("2026-03-29T15:00:00Z")


def test_a_clock_set_back_never_reopens_a_window() -> None:
    engine = daily()
    engine.advance(5 * HOUR)
    engine.hold(cost(10))
    today = engine.window(ID)
    engine.wall -= 10 * HOUR
    assert engine.hold(cost(10)).legs[0].window == today.key


def test_while_a_step_forward_is_suspect_a_hold_must_fit_the_old_and_the_new_window() -> None:
    engine = daily()
    engine.hold(cost(70))
    engine.wall += 24 * HOUR
    assert isinstance(engine.ask(engine.request(cost(31))), Refused)
    both = engine.hold(cost(30))
    assert len({leg.window for leg in both.legs}) == 2
    engine.clock.confirm()
    assert len(engine.hold(cost(70)).legs) == 1


def test_holds_made_in_doubt_lapse_by_the_time_before_the_step() -> None:
    engine = daily()
    engine.now()
    engine.wall += 24 * HOUR
    hold = engine.hold(cost(30))
    engine.advance(DEADLINE_MICROS + GRACE_MICROS)
    engine.run_jobs()
    assert hold.state is HoldState.EXPIRED
    assert {window.held for window in engine.book.windows.values()} == {0}


def test_a_doubt_ends_by_itself_once_real_time_has_caught_up() -> None:
    engine = daily()
    engine.now()
    engine.wall += HOUR
    assert engine.now().doubted is not None
    engine.wall -= HOUR
    engine.advance(2 * HOUR)
    assert engine.now().doubted is None


def test_a_killed_agent_gets_no_new_hold_and_its_open_ones_may_settle() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    key = GateKey(GateKind.AGENT, "a")
    gate.stop(engine.book.gates, key, Stop(Owner.MANUAL, GateState.KILLED, engine.wall, "runaway", "eve"))
    answer = engine.ask(engine.request(cost(1)))
    assert isinstance(answer, Stopped)
    assert (answer.state, answer.reason, answer.actor) == (GateState.KILLED, "runaway", "eve")
    assert isinstance(engine.ask(engine.request(cost(1), Call("b"))), Granted)
    assert engine.settle(hold, cost(40)).outcome is Outcome.SETTLED
    with pytest.raises(AgentStopped) as caught:
        raise_refusal(answer)
    assert caught.value.code == "agent_killed"


def test_a_refusal_names_the_window_its_numbers_and_when_it_resets() -> None:
    engine = daily()
    engine.settle(engine.hold(cost(50)), cost(20))
    engine.hold(cost(70))
    answer = engine.ask(engine.request(cost(11)))
    window = engine.window(ID)
    assert answer == Refused(Reason.NO_ROOM, window.key, 100, 20, 70, 11, window.ends_at)
    with pytest.raises(BudgetExceeded) as caught:
        raise_refusal(answer)
    assert caught.value.code == "budget_exceeded"


def test_a_call_is_held_in_all_of_its_windows_or_in_none() -> None:
    engine = daily()
    engine.create(budget(10, id=numbered(2_000), scope=Scope(agent="a")))
    assert isinstance(engine.ask(engine.request(cost(11))), Refused)
    assert engine.book.windows == {}
    engine.hold(cost(10))
    assert {window.held for window in engine.book.windows.values()} == {10}


def test_an_unknown_price_is_refused_by_a_hard_budget_and_taken_by_a_soft_one() -> None:
    answer = daily().ask(daily().request(cost(None)))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.UNKNOWN_PRICE
    assert isinstance(daily(mode=Mode.SOFT).ask(daily().request(cost(None))), Granted)


def test_a_free_model_is_never_blocked_by_a_money_budget() -> None:
    engine = daily()
    engine.hold(cost(100))
    assert isinstance(engine.ask(engine.request(cost(0))), Granted)


@pytest.mark.parametrize(("policy", "answer"), [(Unpriced.BLOCK, Refused), (Unpriced.ALLOW, Granted)])
def test_unpriced_spend_blocks_the_next_authorise_or_not(policy: Unpriced, answer: type) -> None:
    engine = daily(unpriced=policy)
    spend = engine.post(cost(None))
    assert engine.window(ID).unpriced == 1
    assert isinstance(engine.ask(engine.request(cost(1))), answer)
    engine.correct(spend.key, cost(None), cost(25))
    assert (engine.window(ID).unpriced, engine.window(ID).settled) == (0, 25)
    assert isinstance(engine.ask(engine.request(cost(1))), Granted)


def test_spend_without_a_hold_is_always_recorded_and_refuses_the_next_call() -> None:
    engine = daily(requires_hold=True)
    engine.post(cost(130))
    assert counts(engine) == (130, 0, 0, 130, 0)
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)
    assert [notice.amount for notice in engine.heard("spend.unauthorised")] == [130]


def test_spend_of_yesterday_counts_yesterday_without_an_alert() -> None:
    engine = daily()
    engine.advance(10 * HOUR)
    engine.post(cost(130), at=engine.wall - 20 * HOUR)
    engine.post(cost(10), at=engine.wall + 20 * HOUR)
    yesterday, today = engine.book.tracks[ID, ""].windows
    assert (yesterday.settled, yesterday.late, today.settled) == (130, 130, 10)
    assert engine.heard("budget.threshold") == []
    assert isinstance(engine.ask(engine.request(cost(90))), Granted)


def test_an_event_taken_back_leaves_no_trace_in_the_window() -> None:
    engine = daily()
    spend = engine.post(cost(30))
    engine.correct(spend.key, cost(30), NOTHING)
    assert engine.window(ID).settled == 0
    assert sum(amount for posting in engine.postings for _, amount in posting.parts) == 0


def test_what_no_column_could_hold_is_refused_before_anything_changes() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.post(cost(NUSD_MAX // 2))
    with pytest.raises(AmountOverflow):
        engine.settle(hold, cost(NUSD_MAX))
    with pytest.raises(AmountOverflow):
        engine.post(cost(NUSD_MAX))
    assert (hold.state, counts(engine)[1]) == (HoldState.OPEN, 50)
    engine.check_stored()


def test_extending_moves_the_end_of_an_open_hold_and_of_no_other() -> None:
    engine = daily()
    hold = engine.hold(cost(50))
    engine.extend(hold, 3 * HOUR)
    assert hold.expires_at == engine.wall + 3 * HOUR + GRACE_MICROS
    engine.extend(hold, 100 * HOUR)
    assert hold.deadline_at == hold.created_at + 24 * HOUR
    with pytest.raises(InvalidInput):
        engine.extend(hold, 0)
    engine.settle(hold, cost(1))
    with pytest.raises(HoldResolved):
        engine.extend(hold, HOUR)


@pytest.mark.parametrize(
    ("metric", "limit", "granted"),
    [
        (Metric.CALLS, 3, 3),
        (Metric.TOKENS_TOTAL, 100, 3),
        (Metric.TOKENS_INPUT, 100, 5),
        (Metric.TOKENS_OUTPUT, 100, 10),
        (Metric.DURATION, 1_000, 4),
    ],
)
def test_every_metric_is_held_to_its_limit(metric: Metric, limit: int, granted: int) -> None:
    engine = daily(limit, metric=metric, period=Period.RUN)
    asked = Amounts(None, 30, 20, 10, 1, 250)
    answers = [engine.ask(engine.request(asked, Call("a", run="r"))) for _ in range(12)]
    assert sum(isinstance(answer, Granted) for answer in answers) == granted
    assert isinstance(engine.ask(engine.request(asked, Call("a", run="other"))), Granted)
    assert engine.hold(asked, Call("a")).legs == ()
