"""Templates: every agent in their scope gets a budget of its own with its first call, and only once."""

import pytest
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import Budget, Mode, Scope, from_template, made_id
from bursar.budgets.hold import Granted
from bursar.budgets.lease import Demand
from bursar.budgets.matching import BINDING_MAX, BudgetIndex, Call, TooManyBudgets, check_room_for
from bursar.budgets.refusal import Refused
from bursar.budgets.templates import completed, missing
from bursar.core.periods import Period

ID = numbered(1_000)
FIVE = Budget(id=ID, name="five a day", limit=5, created_at=1, is_template=True)


def own(agent: str) -> bytes:
    return made_id(ID, agent)


def test_a_template_counts_nothing_and_each_agent_gets_its_own() -> None:
    engine = Engine(FIVE)
    for agent in ("a", "b"):
        engine.hold(cost(5), Call(agent))
        refused = engine.ask(engine.request(cost(1), Call(agent)))
        assert isinstance(refused, Refused)
        assert refused.window.budget == own(agent)
    assert {key.budget for key in engine.book.windows} == {own("a"), own("b")}
    assert {b.source for b in engine.budgets.values()} == {"person", f"template:{ID.hex()}"}


def test_spend_that_did_not_ask_makes_the_budget_and_is_counted_in_it() -> None:
    engine = Engine(FIVE)
    engine.post(cost(4), Call("a"), at=engine.wall - HOUR)
    assert engine.window(own("a")).unheld == 4
    assert isinstance(engine.ask(engine.request(cost(2), Call("a"))), Refused)


def test_a_lease_makes_the_budget_it_spends_from() -> None:
    engine = Engine(Budget(id=ID, limit=500, created_at=1, is_template=True))
    answer = engine.acquire(Demand(cost(1)), Call("a"))
    assert isinstance(answer, Granted)
    assert [leg.window.budget for leg in answer.hold.legs] == [own("a")]


def test_a_deleted_budget_is_never_made_again() -> None:
    engine = Engine(FIVE)
    engine.hold(cost(1), Call("a"))
    engine.delete(engine.budgets[own("a")])
    engine.hold(cost(99), Call("a"))
    assert set(engine.budgets) == {ID}


def test_a_call_outside_of_the_scope_or_without_an_agent_makes_nothing() -> None:
    scoped = Budget(id=ID, limit=5, created_at=1, is_template=True, scope=Scope(project="p", model="gpt-*"))
    engine = Engine(scoped)
    for call in (Call("a"), Call("a", project="p", model="opus"), Call("", project="p", model="gpt-x")):
        engine.hold(cost(9), call)
    assert set(engine.budgets) == {ID}
    engine.hold(cost(1), Call("a", project="p", model="gpt-x"))
    assert engine.budgets[own("a")].scope == Scope(project="p", model="gpt-*", agent="a")


def test_a_template_per_run_guards_each_run_of_each_agent() -> None:
    engine = Engine(
        Budget(id=ID, limit=1, created_at=1, is_template=True, metric=Metric.CALLS, period=Period.RUN)
    )
    for agent, run in (("a", "r"), ("a", "s"), ("b", "r")):
        engine.hold(cost(1), Call(agent, run=run))
        assert isinstance(engine.ask(engine.request(cost(1), Call(agent, run=run))), Refused)


def test_an_index_that_knows_everything_asks_no_storage() -> None:
    index = BudgetIndex([FIVE, from_template(FIVE, "a")])
    assert missing(index, [Call("a"), Call("")]) == {}
    owed = missing(index, [Call("b"), Call("b", model="x")])
    assert owed == {own("b"): (FIVE, "b")}
    done = completed(index, owed, {own("b")})
    assert done.active is index
    assert missing(index, [Call("b")]) == {}


def test_a_template_counts_as_one_more_budget_for_every_agent_but_not_twice() -> None:
    full = [Budget(id=numbered(n), limit=1, created_at=1, scope=Scope(agent="a")) for n in range(BINDING_MAX)]
    with pytest.raises(TooManyBudgets):
        check_room_for(FIVE, full)
    standing = [FIVE, from_template(FIVE, "a"), from_template(FIVE, "b"), *full[2:]]
    check_room_for(full[0], standing)
    check_room_for(from_template(FIVE, "c"), standing)
    with pytest.raises(TooManyBudgets):
        check_room_for(full[0], [*standing, full[1]])


def test_a_source_that_only_looks_like_a_templates_is_counted() -> None:
    full = [
        Budget(id=numbered(n), limit=1, created_at=1, source=f"template:{ID.hex()}", scope=Scope(agent="a"))
        for n in range(BINDING_MAX)
    ]
    with pytest.raises(TooManyBudgets):
        check_room_for(FIVE, full)


def test_where_an_agent_would_meet_too_many_none_is_made_and_that_is_told_once() -> None:
    full = [
        Budget(id=numbered(n), limit=99, created_at=1, mode=Mode.HARD, scope=Scope(agent="a"))
        for n in range(BINDING_MAX)
    ]
    engine = Engine(*full)
    engine.replace(FIVE)  # as if there had been room when it was made
    for _ in range(2):
        engine.hold(cost(1), Call("a"))
        engine.replace(FIVE)
    assert own("a") not in engine.budgets
    [notice] = engine.heard("budget.template_skipped")
    assert (notice.budget, notice.agent, notice.window) == (ID, "a", None)
    engine.hold(cost(5), Call("b"))
    assert own("b") in engine.budgets
