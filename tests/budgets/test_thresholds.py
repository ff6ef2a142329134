"""Thresholds, clamps, refusals at a share, incidents and what people decide about them."""

import pytest
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets import incident
from bursar.budgets.budget import Action, Budget, Mode, Threshold
from bursar.budgets.hold import Granted, Request
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Refused
from bursar.budgets.standing import BudgetState, standing_of, tightest
from bursar.core.errors import Conflict, InvalidInput

ID = numbered(1_000)


def engine_of(*thresholds: Threshold, mode: Mode = Mode.HARD, limit: int = 100) -> Engine:
    return Engine(Budget(id=ID, limit=limit, created_at=1, mode=mode, thresholds=thresholds))


def sized(engine: Engine, tokens: int, *, allow_smaller: bool = False, least: int = 1) -> Request:
    """A call that costs ten for its input and one for each token of output."""
    number = engine.number()
    return Request(
        hold_id=number, key=number, digest=b"d", call=Call("a"), amounts=cost(10 + tokens),
        max_output_tokens=tokens, sized=lambda n: cost(10 + n), allow_smaller=allow_smaller,
        min_output_tokens=least,
    )  # fmt: skip


def test_each_threshold_is_raised_once_in_each_window() -> None:
    engine = engine_of(Threshold(500_000), Threshold(1_000_000), mode=Mode.SOFT)
    for _ in range(4):
        engine.post(cost(40))
    assert [(n.share_ppm, n.amount) for n in engine.heard("budget.threshold")] == [
        (500_000, 80), (1_000_000, 120),
    ]  # fmt: skip
    engine.advance(24 * HOUR)
    engine.post(cost(50))
    assert len(engine.heard("budget.threshold")) == 3


def test_lowering_a_limit_raises_the_thresholds_it_passes() -> None:
    engine = engine_of(Threshold(800_000))
    engine.post(cost(40))
    engine.change_limit(ID, 50)
    assert [n.share_ppm for n in engine.heard("budget.threshold")] == [800_000]
    assert [n.amount for n in engine.heard("budget.lowered")] == []


def test_a_refusing_threshold_of_a_soft_budget_grants_up_to_its_share() -> None:
    engine = engine_of(Threshold(1_200_000, Action.REFUSE), mode=Mode.SOFT)
    engine.hold(cost(120))
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)


def test_a_refusing_threshold_never_widens_a_hard_budget() -> None:
    engine = engine_of(Threshold(2_000_000, Action.REFUSE))
    engine.hold(cost(100))
    assert isinstance(engine.ask(engine.request(cost(1))), Refused)


def test_a_clamp_bounds_the_output_from_its_share_on_and_holds_the_smaller_amount() -> None:
    engine = engine_of(Threshold(500_000, Action.CLAMP, 5))
    before = engine.ask(sized(engine, 40))
    after = engine.ask(sized(engine, 30))
    assert isinstance(before, Granted)
    assert isinstance(after, Granted)
    assert (before.hold.max_output_tokens, before.hold.amounts) == (40, cost(50))
    assert (after.hold.max_output_tokens, after.hold.amounts) == (5, cost(15))


def test_a_smaller_grant_comes_with_the_output_that_makes_it_true() -> None:
    engine = engine_of()
    engine.hold(cost(70))
    assert isinstance(engine.ask(sized(engine, 40)), Refused)
    answer = engine.ask(sized(engine, 40, allow_smaller=True))
    assert isinstance(answer, Granted)
    assert (answer.hold.max_output_tokens, answer.hold.amounts) == (20, cost(30))
    assert engine.window(ID).held == 100


def test_a_grant_too_small_to_be_of_use_is_refused() -> None:
    engine = engine_of()
    engine.hold(cost(70))
    assert isinstance(engine.ask(sized(engine, 40, allow_smaller=True, least=21)), Refused)


def test_a_crossing_opens_one_incident_and_a_raise_allows_the_next() -> None:
    engine = engine_of()
    engine.hold(cost(100))
    for _ in range(3):
        engine.ask(engine.request(cost(1)))
    assert len(engine.heard("budget.exceeded")) == 1
    engine.change_limit(ID, 110)
    engine.post(cost(110))
    engine.post(cost(1))
    assert len(engine.heard("budget.exceeded")) == 2


def crossed() -> tuple[Engine, Incident]:
    engine = engine_of()
    engine.post(cost(100))
    (notice,) = engine.heard("budget.exceeded")
    return engine, incident.opened(numbered(5), notice, engine.wall)


def decide(engine: Engine, opened: Incident, decision: Decision) -> Incident:
    return engine.commit(lambda: incident.resolved(engine.book, opened, decision, engine.wall))


def test_an_approved_raise_lets_the_agent_go_on_in_this_window_only() -> None:
    engine, opened = crossed()
    done = decide(engine, opened, Decision(Resolution.RAISED, "eve", "launch day", limit=150))
    assert (done.resolution, done.actor, done.note) == (Resolution.RAISED, "eve", "launch day")
    assert isinstance(engine.ask(engine.request(cost(50))), Granted)
    engine.advance(24 * HOUR)
    assert isinstance(engine.ask(engine.request(cost(101))), Refused)


def test_a_raise_until_a_time_is_taken_back() -> None:
    engine, opened = crossed()
    decision = Decision(Resolution.RAISED_UNTIL, "eve", limit=150, until=engine.wall + HOUR)
    done = decide(engine, opened, decision)
    engine.hold(cost(30))
    engine.commit(lambda: incident.taken_back(engine.book, done))
    window = engine.window(ID)
    assert (window.limit, window.settled, window.held, window.lowered) == (100, 100, 30, 30)


def test_keeping_it_stopped_changes_nothing_and_is_final() -> None:
    engine, opened = crossed()
    kept = decide(engine, opened, Decision(Resolution.KEPT_STOPPED, "eve"))
    assert decide(engine, kept, Decision(Resolution.KEPT_STOPPED, "eve")) == kept
    with pytest.raises(Conflict):
        decide(engine, kept, Decision(Resolution.RAISED, "eve", limit=150))
    assert engine.window(ID).limit == 100


@pytest.mark.parametrize(
    ("field", "decision"),
    [
        ("limit", Decision(Resolution.RAISED, "eve", limit=100)),
        ("until", Decision(Resolution.RAISED_UNTIL, "eve", limit=150)),
        ("until", Decision(Resolution.RAISED_UNTIL, "eve", limit=150, until=1)),
    ],
)
def test_a_raise_that_raises_nothing_is_refused(field: str, decision: Decision) -> None:
    engine, opened = crossed()
    with pytest.raises(InvalidInput) as caught:
        decide(engine, opened, decision)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("used", "state"),
    [(0, BudgetState.OK), (79, BudgetState.OK), (80, BudgetState.WARNING), (100, BudgetState.EXCEEDED)],
)
def test_an_agent_sees_how_it_stands(used: int, state: BudgetState) -> None:
    engine = engine_of()
    engine.hold(cost(used))
    engine.create(Budget(id=numbered(9), limit=10_000, created_at=1))
    call = Call("a")
    found = standing_of(engine.book, engine.index.matching(call), call, engine.now())
    assert [standing.budget for standing in found] == [numbered(9), ID]
    assert (found[1].state, found[1].remaining) == (state, 100 - used)
    assert found[1].resets_at == engine.book.window_at(engine.index.terms[ID], "", engine.wall).ends_at
    assert tightest(found) == (found[1] if used else found[0])
    assert tightest([]) is None
