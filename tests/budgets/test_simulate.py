"""A proposed budget over past calls."""

from memory_engine import HOUR, START, cost, numbered

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import Budget, Mode, Scope
from bursar.budgets.matching import Call
from bursar.budgets.settlement import Spend
from bursar.budgets.simulate import simulated
from bursar.budgets.window import reaches, share_of


def past(*calls: tuple[str, int, int]) -> list[Spend]:
    return [
        Spend(numbered(n), Call(agent), cost(nusd), START + hours * HOUR)
        for n, (agent, hours, nusd) in enumerate(calls, start=1)
    ]


def test_it_says_who_would_have_been_refused_and_when() -> None:
    budget = Budget(id=b"b", limit=100, created_at=START + 99 * HOUR, scope=Scope(agent="a"))
    calls = past(("a", 0, 60), ("b", 0, 900), ("a", 1, 50), ("a", 2, 40), ("a", 5, 90))
    found = simulated(budget, calls)
    assert (found.matched, found.refused) == (4, 1)
    assert [(spend.key, refused.window.budget) for spend, refused in found.refusals if refused.window] == [
        (numbered(3), b"b")
    ]
    assert [window.settled for window in found.windows] == [100, 90]
    assert len([n for n in found.notices if n.occasion == "budget.exceeded"]) == 1


def test_a_soft_budget_refuses_nobody_and_shows_its_alerts() -> None:
    budget = Budget(id=b"b", limit=100, created_at=1, mode=Mode.SOFT)
    found = simulated(budget, past(("a", 0, 70), ("a", 1, 70)))
    assert (found.refused, [n.share_ppm for n in found.notices]) == (0, [800_000, 1_000_000])


def test_calls_without_a_price_count_against_limits_of_other_metrics() -> None:
    budget = Budget(id=b"b", limit=2, created_at=1, metric=Metric.CALLS)
    spends = [spend._replace(amounts=cost(None)) for spend in past(*[("a", 0, 1)] * 5)]
    assert simulated(budget, spends).refused == 3


def test_shares_of_a_limit_are_exact() -> None:
    assert share_of(3, 333_333) == 0
    assert reaches(1, 3, 333_333)
    assert not reaches(333_332, 1_000_000, 333_333)
