"""Lists show what was decided, page by page, and of one organisation only."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from memory_engine import HOUR, cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets import gate
from bursar.budgets.book import Occasion
from bursar.budgets.budget import Budget
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.matching import Call
from bursar.budgets.window import NEVER, WindowKey
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.enforcement.hold_reading import HoldQuery
from bursar.storage.sql import budget_lists
from bursar.storage.sql.hold_lists import SqlHoldReader
from support.engines import Database

Result = TypeVar("Result")

A, B = numbered(901), numbered(902)


@pytest.fixture
def engine(database: Database) -> Iterator[StoredEngine]:
    files = Files(database)
    StoredEngine(files).create(Budget(id=A, limit=1, created_at=1))
    made = StoredEngine(files)
    made.create(Budget(id=A, limit=10, created_at=1, period=Period.HOURLY))
    made.create(Budget(id=B, limit=99, created_at=1))
    yield made
    files.close()


def told(engine: StoredEngine, lister: Callable[..., Result], *given: object, **bounds: object) -> Result:
    """Ask one of the lists for the engine's organisation."""
    return engine.read(lambda connection: lister(connection, engine.org, *given, **bounds))


def test_pages_of_each_list_show_everything_once(engine: StoredEngine) -> None:
    for _ in range(3):
        engine.settle(engine.hold(cost(4)), cost(10))
        engine.hold(cost(0))
        engine.advance(HOUR)
    agents = [GateKey(GateKind.AGENT, name) for name in "ab"]
    for key in agents:
        gate.stop(engine.book.gates, key, Stop(Owner.MANUAL, GateState.KILLED, engine.wall))
    engine.flush_gates()
    first, second = told(engine, budget_lists.budgets, most=9)
    assert (first.id, first.limit, second.id) == (A, 10, B)
    assert told(engine, budget_lists.budgets, after=A, most=9) == [second]
    assert told(engine, budget_lists.budget, A) == first
    newest, older = told(engine, budget_lists.windows, WindowKey(A, "", NEVER), most=2)
    [oldest] = told(engine, budget_lists.windows, older.key, most=2)
    assert [w.settled for w in (newest, older, oldest)] == [10, 10, 10]
    assert newest.starts_at == oldest.starts_at + 2 * HOUR
    page = told(engine, budget_lists.holds, most=4)
    rest = told(engine, budget_lists.holds, before=page[-1].id, most=4)
    assert sorted(engine.book.holds, reverse=True) == [hold.id for hold in page + rest]
    [soonest] = told(engine, budget_lists.open_holds, most=1)
    others = told(engine, budget_lists.open_holds, after=(soonest.expires_at, soonest.id), most=9)
    assert [hold.amounts for hold in [soonest, *others]] == [cost(0)] * 3
    assert told(engine, budget_lists.hold, soonest.id) == soonest
    found = told(engine, budget_lists.incidents, most=2)
    found += told(engine, budget_lists.incidents, before=found[-1].id, most=2)
    assert {incident.window for incident in found} == {w.key for w in (newest, older, oldest)}
    [killed] = told(engine, budget_lists.gates, most=1)
    [other] = told(engine, budget_lists.gates, after=killed.key, most=9)
    assert [killed.key, other.key] == agents


def test_each_notice_but_a_windows_end_is_an_alert_in_its_commit(engine: StoredEngine) -> None:
    hold = engine.hold(cost(4), Call("bot"))
    engine.settle(hold, cost(12))
    engine.advance(HOUR)
    engine.run_jobs()
    engine.post(cost(30), Call("other"))
    everything = told(engine, budget_lists.alerts, None, most=99)
    own = told(engine, budget_lists.alerts, A, most=3)
    own += told(engine, budget_lists.alerts, A, before=own[-1].id, most=9)
    assert engine.read(lambda c: budget_lists.alerts(c, Org(engine.org - 1), None, most=9)) == []
    assert [alert for alert in everything if alert.budget == A] == own
    first = [alert for alert in own if alert.agent == "bot"]
    assert {(a.occasion, a.share_ppm, a.amount, a.source) for a in first} == {
        (Occasion.OVERRUN, 0, 8, hold.id),
        (Occasion.INCIDENT, 0, 12, None),
        (Occasion.THRESHOLD, 800_000, 12, None),
        (Occasion.THRESHOLD, 1_000_000, 12, None),
    }
    assert {a.agent for a in own} == {"bot", "other"}
    assert {a.starts_at for a in own} == {key.starts_at for key in engine.book.windows if key.budget == A}


def test_amounts_stored_before_there_were_run_guards_are_read(engine: StoredEngine) -> None:
    hold = engine.hold(cost(4))
    engine.files.database.change("UPDATE hold SET amounts = '[4,0,0,0,1,1000]' WHERE id = ?", hold.id)
    assert told(engine, budget_lists.hold, hold.id) == hold


@pytest.mark.parametrize("name", ["bo\\u0000t", 'quo"te', "\u00fcn\u00ef", "Bot", "b%"])
def test_holds_of_an_agent_are_found_whatever_its_name(engine: StoredEngine, name: str) -> None:
    for other in ("bot", "\u00dcn\u00ef", "b_", name):
        hold = engine.hold(cost(1), Call(other))
    reader = SqlHoldReader(engine.files.engine.readers)

    async def found() -> list[tuple[bytes, str]]:
        page = await reader.page(engine.org, HoldQuery(agent=name))
        return [(shown.hold.id, shown.hold.call.agent) for shown in page.holds]

    assert engine.run(found()) == [(hold.id, name)]
