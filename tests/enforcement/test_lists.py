"""Lists show what was decided, page by page, and of one organisation only."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

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
from bursar.storage.sql import budget_lists

A, B = numbered(901), numbered(902)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StoredEngine]:
    files = Files(tmp_path)
    StoredEngine(files).create(Budget(id=A, limit=1, created_at=1))
    made = StoredEngine(files)
    made.create(Budget(id=A, limit=10, created_at=1, period=Period.HOURLY))
    made.create(Budget(id=B, limit=99, created_at=1))
    yield made
    files.close()


def test_pages_of_each_list_show_everything_once(engine: StoredEngine) -> None:
    for _ in range(3):
        engine.settle(engine.hold(cost(4)), cost(10))
        engine.hold(cost(0))
        engine.advance(HOUR)
    agents = [GateKey(GateKind.AGENT, name) for name in "ab"]
    for key in agents:
        gate.stop(engine.book.gates, key, Stop(Owner.MANUAL, GateState.KILLED, engine.wall))
    engine.flush_gates()
    with closing(engine.files.store.reader()) as reader:
        first, second = budget_lists.budgets(reader, engine.org, most=9)
        assert (first.id, first.limit, second.id) == (A, 10, B)
        assert budget_lists.budgets(reader, engine.org, after=A, most=9) == [second]
        assert budget_lists.budget(reader, engine.org, A) == first
        newest, older = budget_lists.windows(reader, engine.org, WindowKey(A, "", NEVER), most=2)
        [oldest] = budget_lists.windows(reader, engine.org, older.key, most=2)
        assert [w.settled for w in (newest, older, oldest)] == [10, 10, 10]
        assert newest.starts_at == oldest.starts_at + 2 * HOUR
        page = budget_lists.holds(reader, engine.org, most=4)
        rest = budget_lists.holds(reader, engine.org, before=page[-1].id, most=4)
        assert sorted(engine.book.holds, reverse=True) == [hold.id for hold in page + rest]
        [soonest] = budget_lists.open_holds(reader, engine.org, most=1)
        others = budget_lists.open_holds(reader, engine.org, after=(soonest.expires_at, soonest.id), most=9)
        assert [hold.amounts for hold in [soonest, *others]] == [cost(0)] * 3
        assert budget_lists.hold(reader, engine.org, soonest.id) == soonest
        found = budget_lists.incidents(reader, engine.org, most=2)
        found += budget_lists.incidents(reader, engine.org, before=found[-1].id, most=2)
        assert {incident.window for incident in found} == {w.key for w in (newest, older, oldest)}
        [killed] = budget_lists.gates(reader, engine.org, most=1)
        [other] = budget_lists.gates(reader, engine.org, after=killed.key, most=9)
        assert [killed.key, other.key] == agents


def test_each_notice_but_a_windows_end_is_an_alert_in_its_commit(engine: StoredEngine) -> None:
    hold = engine.hold(cost(4), Call("bot"))
    engine.settle(hold, cost(12))
    engine.advance(HOUR)
    engine.run_jobs()
    engine.post(cost(30), Call("other"))
    with closing(engine.files.store.reader()) as reader:
        everything = budget_lists.alerts(reader, engine.org, None, most=99)
        own = budget_lists.alerts(reader, engine.org, A, most=3)
        own += budget_lists.alerts(reader, engine.org, A, before=own[-1].id, most=9)
        assert budget_lists.alerts(reader, Org(engine.org - 1), None, most=9) == []
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
    engine.files.store.close()
    with sqlite3.connect(engine.files.store.path) as connection:
        connection.execute("UPDATE hold SET amounts = '[4,0,0,0,1,1000]' WHERE id = ?", (hold.id,))
    connection.close()
    engine.files.reopen()
    with closing(engine.files.store.reader()) as reader:
        assert budget_lists.hold(reader, engine.org, hold.id) == hold
