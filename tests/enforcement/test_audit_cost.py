"""What the auditor's minute costs, in the steps of SQLite's machine."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from audited_spender import Audited, open_audited, proved

from bursar.core.ids import new_id
from bursar.ledger.verification import Findings, VerifyReport
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.verify_recent import RecentBudgets
from bursar.storage.sql.verify_rounds import BudgetRound
from bursar.storage.sql.verify_scope import Scope
from bursar.storage.sqlite.snapshots import open_snapshot
from support.engines import Database

ENGINES = ("sqlite",)
STEPS = 100
"""A look at the database's work is taken at every so many steps of its machine."""


@pytest.fixture
def audited(database: Database) -> Iterator[Audited]:
    with open_audited(database) as spender:
        yield spender


def measured(audited: Audited, work: Callable[[Scope], object] | None = None) -> tuple[VerifyReport, int]:
    """Prove what was touched since the last look, or do `work`, and count the steps that it took."""
    findings = Findings()
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += STEPS
        return 0

    with closing(open_snapshot(audited.desk.treasury.store.path)) as connection:
        connection.set_progress_handler(count, STEPS)
        (work or audited.recent.check)(Scope(connection, audited.desk.org, findings))
    return findings.report(), steps


def fill(audited: Audited, count: int) -> None:
    """Write settled holds of the budgets' running windows straight into the file, all sound."""

    async def work(transaction: object) -> None:
        connection, org = transaction.connection, audited.desk.org
        [hold] = connection.execute("SELECT * FROM hold WHERE settled IS NOT NULL LIMIT 1").fetchall()
        [posting] = connection.execute("SELECT * FROM posting LIMIT 1").fetchall()
        ids = [new_id() for _ in range(count)]
        columns = ", ".join("?" * len(hold))
        connection.executemany(f"INSERT INTO hold VALUES ({columns})", [(org, i, i, *hold[3:]) for i in ids])
        copies = [(org, i, *posting[2:]) for i in ids]
        connection.executemany("INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?)", copies)
        for key, amount in rows.parts_of(posting[5]):
            connection.execute(
                """UPDATE budget_window SET settled = settled + ?1, limit_amount = limit_amount + ?1
                WHERE org = ?2 AND budget = ?3 AND member = ?4 AND starts_at = ?5""",
                (amount * count, org, *key),
            )

    audited.desk.run(audited.desk.treasury.store.transact(work))


def test_a_minute_costs_what_was_touched_not_what_was_ever_spent(audited: Audited) -> None:
    audited.spend()
    costs = []
    for settled in (500, 20_000):
        audited.pass_minutes()
        fill(audited, settled)
        audited.pass_minutes(5)
        audited.spend()
        audited.recent = RecentBudgets()
        assert audited.look().ok
        audited.pass_minutes(5)
        audited.spend(5)
        _expire_ids(audited)
        report, steps = measured(audited)
        assert report.ok
        costs.append(steps)
    assert costs[1] <= costs[0] + 2 * STEPS
    report, whole = measured(audited, lambda scope: proved(scope, BudgetRound(scope, 0)))
    assert report.ok
    assert whole > 50 * costs[1]


def _expire_ids(audited: Audited) -> None:
    """Pretend that the holds made before were given their ids an hour ago: only the last ones are new."""
    last = int.from_bytes(new_id()[:6], "big")
    audited.recent._last_hold = (last + 3_600_000).to_bytes(6, "big") + bytes(10)
