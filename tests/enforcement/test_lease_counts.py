"""What the desk reads to count clients, and how fast a lease is taken to be spent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_engine import cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets.amounts import Amounts
from bursar.budgets.budget import Budget
from bursar.budgets.hold import Granted
from bursar.budgets.lease import Demand, Report
from bursar.core.ids import Org
from bursar.enforcement.leasing import LeaseSeen, SeeingLease, rate_by_calls, rate_by_cost
from bursar.enforcement.questions import Report as Asked
from bursar.storage.sql import lease_counts
from support.engines import Database

DEMAND = Demand(cost(10), cost(90))


@pytest.fixture
def engine(database: Database) -> Iterator[StoredEngine]:
    files = Files(database)
    made = StoredEngine(files)
    made.create(Budget(id=numbered(901), limit=1_000, created_at=1))
    yield made
    made.check_stored()
    files.close()


def test_only_open_leases_are_counted_and_no_call_s_hold_is_read(engine: StoredEngine) -> None:
    for _ in range(3):
        engine.hold(cost(1))
    kept, returned = engine.acquire(DEMAND), engine.acquire(DEMAND)
    assert isinstance(kept, Granted)
    assert isinstance(returned, Granted)
    engine.report(returned.hold, Report(nonce=b"n", number=1, is_final=True))
    found = engine.read(lambda c: lease_counts.windows_of_leases(c, engine.org))
    assert found == {kept.hold.id: frozenset(leg.window for leg in kept.hold.legs)}


def test_sqlite_counts_leases_by_their_index_alone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    explain = f"EXPLAIN QUERY PLAN {lease_counts.LEGS}"
    plan = files.read(Org(1), lambda c: [row["detail"] for row in c.execute(explain, (1,))])
    files.close()
    assert plan == ["SEARCH hold USING INDEX hold_leases (org=?)"]


def test_a_seen_lease_says_how_long_it_may_be_spent_still(engine: StoredEngine) -> None:
    answer = engine.acquire(DEMAND)
    assert isinstance(answer, Granted)
    assert answer.hold.lease is not None
    engine.advance(1_000_000)
    asked = SeeingLease(Asked(answer.hold.id, Report(nonce=b"n", number=1)))
    seen = engine.run(engine.desk.ask(engine.org, asked))
    engine.report(answer.hold, Report(nonce=b"n", number=1))  # the engine in memory heard it, too
    assert isinstance(seen, LeaseSeen)
    assert (seen.left, seen.epoch, seen.is_new) == (answer.hold.lease.ttl - 1_000_000, 0, False)
    assert seen.windows[0].held == 100


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (rate_by_calls(Amounts(10, 300, 200, 100), 2_500_000), Amounts(25, 750, 500, 250, 2)),
        (rate_by_cost(Amounts(10, 300, 200, 100), 25), Amounts(25, 750, 500, 250, 2)),
        (rate_by_cost(Amounts(0, 300), 25), Amounts(25, calls=0)),
        (rate_by_cost(Amounts(None, 300), 25), Amounts(25, calls=0)),
    ],
)
def test_a_rate_is_in_proportion_to_a_call(rate: Amounts, expected: Amounts) -> None:
    assert rate == expected
