"""What the desk loads and whom a failure reaches; the state machine proves the rest."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from memory_engine import HOUR, cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets.budget import Action, Budget, Mode, Threshold
from bursar.budgets.gate import GateState
from bursar.budgets.hold import Granted
from bursar.budgets.incident import Decision, Resolution
from bursar.budgets.refusal import Refused, Stopped
from bursar.core.errors import Conflict, NotFound
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.enforcement import changes
from bursar.enforcement.desk import Desk
from bursar.enforcement.indexes import Indexes
from bursar.enforcement.questions import Authorise, Extend, Settle, Void
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.budgets import HOLDS_BY_ID, HOLDS_BY_KEY
from bursar.storage.sql.ports import Store
from support.engines import Database


@pytest.fixture
def engine(database: Database) -> Iterator[StoredEngine]:
    files = Files(database)
    made = StoredEngine(files)
    yield made
    made.check_stored()
    files.close()


class CountedStore:
    """A store that counts what is asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.commits_apart, self.together_max = store.commits_apart, store.together_max
        self.transactions = 0
        self.commits_apart = store.commits_apart

    async def transact(
        self, work: Callable[[object], Awaitable[object]], *, is_large: bool = False
    ) -> object:
        self.transactions += 1
        return await self._store.transact(work, is_large=is_large)


def budget(number: int = 901, **fields: object) -> Budget:
    return Budget(**{"id": numbered(number), "limit": 100, "created_at": 1, **fields})


def test_a_past_instant_finds_its_place_between_the_windows_around_it(engine: StoredEngine) -> None:
    engine.create(budget(period=Period.SESSION_5H))
    begun = engine.wall
    for hours in (0, 20, 40):
        engine.post(cost(1), at=begun + hours * HOUR)
        engine.advance(20 * HOUR)
    engine.post(cost(1), at=begun + 17 * HOUR)
    ends = sorted(window.ends_at - begun for window in engine.book.windows.values())
    assert ends == [hours * HOUR for hours in (5, 20, 25, 45)]


def test_a_watching_budget_gets_a_late_settlement_in_the_window_of_the_grant(engine: StoredEngine) -> None:
    engine.create(budget(901))
    engine.create(budget(902, mode=Mode.SOFT, period=Period.HOURLY))
    hold = engine.hold(cost(10))
    engine.post(cost(1))
    engine.advance(2 * HOUR)
    engine.post(cost(1))
    engine.settle(hold, cost(4))
    hourly = [w.settled for key, w in engine.book.windows.items() if key.budget == numbered(902)]
    assert hourly == [5, 1]


def test_questions_that_wait_together_share_one_commit(engine: StoredEngine) -> None:
    engine.create(budget(limit=50))
    counted = CountedStore(engine.files.store)
    desk = Desk(counted, Indexes(), engine.now, engine.hear)

    async def together() -> list[object]:
        requests = [Authorise(engine.request(cost(1))) for _ in range(64)]
        return await asyncio.gather(*(desk.ask(engine.org, request) for request in requests))

    answers = engine.run(together())
    assert counted.transactions == 64 // counted.together_max
    assert [type(answer) for answer in answers] == [Granted] * 50 + [Refused] * 14
    mirror(engine)


def test_one_questions_error_leaves_its_neighbours_answers(engine: StoredEngine) -> None:
    engine.create(budget())
    kept = engine.hold(cost(5))
    org, desk = engine.org, engine.desk

    async def together() -> list[object]:
        broken = Authorise(None)  # a defect: the shared commit fails, then only this one
        asked = [Void(numbered(77)), broken, Extend(kept.id, HOUR), Settle(numbered(78), cost(1), 0)]
        return await asyncio.gather(*(desk.ask(org, one) for one in asked), return_exceptions=True)

    unknown, broken, extended, other = engine.run(together())
    assert isinstance(unknown, NotFound)
    assert isinstance(other, NotFound)
    assert isinstance(broken, AttributeError)
    assert extended.expires_at > kept.expires_at
    mirror(engine)


def test_an_organisation_sees_nothing_of_another(engine: StoredEngine) -> None:
    engine.create(budget())
    hold = engine.hold(cost(5))
    other = StoredEngine(engine.files)
    with pytest.raises(NotFound):
        other.run(other.desk.ask(other.org, Void(hold.id)))
    assert (
        other.run(other.desk.ask(other.org, Authorise(engine.request(cost(5), key=hold.key)))).hold.legs == ()
    )


def test_an_incident_is_decided_once_and_the_raise_counts(engine: StoredEngine) -> None:
    engine.create(budget(limit=10))
    assert isinstance(engine.ask(engine.request(cost(11))), Granted | Refused)
    hold = engine.hold(cost(10))
    engine.settle(hold, cost(10))
    [row] = engine.rows(f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ?")
    incident = rows.incident_of(row)
    raised = Decision(Resolution.RAISED, "user:1", "go on", limit=20)
    for _ in range(2):
        change = engine.desk.change(engine.org, lambda c: changes.resolve(c, incident.id, raised))
        assert engine.run(change).resolution is Resolution.RAISED
    with pytest.raises(Conflict):
        engine.run(
            engine.desk.change(
                engine.org,
                lambda c: changes.resolve(c, incident.id, Decision(Resolution.KEPT_STOPPED, "user:1")),
            )
        )
    assert engine.rows("SELECT actor, note, limit_amount FROM approval WHERE org = ?") == [
        ("user:1", "go on", 20)
    ]
    answer = engine.run(engine.desk.ask(engine.org, Authorise(engine.request(cost(10)))))
    assert isinstance(answer, Granted)
    mirror(engine)


def test_a_budgets_stop_outlives_a_restart_and_ends_with_its_window(engine: StoredEngine) -> None:
    engine.create(budget(thresholds=(Threshold(500_000, Action.KILL),), period=Period.HOURLY))
    engine.settle(engine.hold(cost(60)), cost(60))
    engine.restart()
    stopped = engine.ask(engine.request(cost(1)))
    assert isinstance(stopped, Stopped)
    assert stopped.state is GateState.KILLED
    engine.advance(HOUR)
    assert isinstance(engine.ask(engine.request(cost(1))), Granted)


@pytest.mark.parametrize("lookup", [HOLDS_BY_ID, HOLDS_BY_KEY])
def test_sqlite_looks_many_holds_up_by_seeks_alone(tmp_path: Path, lookup: str) -> None:
    files = Files(tmp_path)
    sql = f"EXPLAIN QUERY PLAN {lookup} IN ({', '.join('?' * 64)})"
    plan = files.read(Org(1), lambda c: [row["detail"] for row in c.execute(sql, (1, *[b""] * 64))])
    files.close()
    assert ["org=? AND id=?" in step or "org=? AND key=?" in step for step in plan] == [True]


def mirror(engine: StoredEngine) -> None:
    """Have the engine in memory take what was asked of the file alone."""
    engine.stored.clear()
    for row in engine.rows(f"SELECT {rows.WINDOW_COLUMNS} FROM budget_window WHERE org = ?"):
        window = rows.window_of(row)
        engine.stored[window.key] = window
    for row in engine.rows(f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ?"):
        hold = rows.hold_of(row)
        engine.stored[hold.id] = hold
    engine.notices = engine.told
    engine.incidents = engine.stored_incidents()
    engine.restart()
