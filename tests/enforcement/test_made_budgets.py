"""Templates on a file: made in the commit of the first call, for good, and by nobody else's."""

import asyncio
from collections.abc import Iterator

import pytest
from memory_engine import cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets.book import Occasion
from bursar.budgets.budget import Budget, Scope, made_id
from bursar.budgets.hold import Granted
from bursar.budgets.matching import BINDING_MAX, Call
from bursar.budgets.ports import BudgetStore
from bursar.budgets.refusal import Refused
from bursar.enforcement.questions import Authorise
from bursar.storage.sql import budget_lists
from support.engines import Database

ID = numbered(901)
FIVE = Budget(id=ID, limit=5, created_at=1, is_template=True)


@pytest.fixture
def engine(database: Database) -> Iterator[StoredEngine]:
    files = Files(database)
    yield StoredEngine(files)
    files.close()


def test_calls_of_one_commit_share_the_budget_that_the_first_of_them_makes(engine: StoredEngine) -> None:
    engine.create(FIVE)

    async def together() -> list[object]:
        requests = [engine.request(cost(2), Call(agent)) for agent in "aabba"]
        return await asyncio.gather(*(engine.desk.ask(engine.org, Authorise(r)) for r in requests))

    answers = engine.run(together())
    assert [type(answer) for answer in answers] == [Granted, Granted, Granted, Granted, Refused]
    stored = engine.read(lambda c: budget_lists.budgets(c, engine.org, most=9))
    assert {budget.id for budget in stored} == {ID, made_id(ID, "a"), made_id(ID, "b")}


def test_a_deleted_one_stays_deleted_over_a_restart(engine: StoredEngine) -> None:
    engine.create(FIVE)
    engine.hold(cost(1), Call("a"))
    engine.delete(engine.budgets[made_id(ID, "a")])
    engine.restart()
    engine.hold(cost(50), Call("a"))
    engine.check_stored()


def test_an_agent_without_room_is_told_of_once_over_restarts(engine: StoredEngine) -> None:
    engine.create(FIVE)
    others = [
        Budget(id=numbered(n), limit=99, created_at=1, scope=Scope(agent="a")) for n in range(1, BINDING_MAX)
    ]
    for budget in others:
        engine.create(budget)
    extra = Budget(id=numbered(800), limit=99, created_at=1, scope=Scope(agent="a"))
    engine.both(
        lambda: engine.replace(extra) or extra,
        lambda: engine.desk.change(engine.org, lambda change: _put(change.budgets, extra)),
    )
    for _ in range(2):
        engine.hold(cost(1), Call("a"))
        engine.restart()
    engine.check_stored()
    [alert] = engine.read(lambda c: budget_lists.alerts(c, engine.org, ID, most=9))
    assert (alert.occasion, alert.agent, alert.starts_at) == (Occasion.TEMPLATE_SKIPPED, "a", None)


async def _put(budgets: BudgetStore, budget: Budget) -> Budget:
    await budgets.put(budget)
    return budget
