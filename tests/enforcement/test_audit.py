"""The auditor beside a server that spends: what was touched each minute, everything within the day."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bursar.core.ids import new_id
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.enforcement.questions import Void
from bursar.jobs.audit import AuditJob
from bursar.ledger.verification import Findings, VerifyReport
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.verify import open_snapshot
from bursar.storage.sql.verify_recent import SUMMED_MAX, RecentBudgets
from bursar.storage.sql.verify_rounds import ROUND_MICROS, BudgetRound
from bursar.storage.sql.verify_scope import Scope
from bursar.storage.sql.verify_slices import SqlAuditor
from bursar.web.metrics import LedgerMetrics
from support.desk import event, open_desk
from support.spender import BOT, Spender

STEPS = 100
"""A look at the database's work is taken at every so many steps of its machine."""


class Audited(Spender):
    """A spender with what was remembered at the last look at its budgets."""

    recent: RecentBudgets

    def look(self, work: Callable[[Scope], object] | None = None) -> VerifyReport:
        """Prove what was touched since the last look; `work` takes its place."""
        return self.measured(work)[0]

    def measured(self, work: Callable[[Scope], object] | None = None) -> tuple[VerifyReport, int]:
        """Do the same, and count the steps that the database took."""
        findings = Findings()
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += STEPS
            return 0

        with closing(open_snapshot(self.desk.treasury.store.path)) as connection:
            connection.set_progress_handler(count, STEPS)
            (work or self.recent.check)(Scope(connection, self.desk.org, findings))
        return findings.report(), steps

    def spoil(self, sql: str, *values: object) -> None:
        async def work(transaction: object) -> None:
            connection = transaction.connection
            connection.execute("PRAGMA ignore_check_constraints = ON")
            assert connection.execute(sql, values).rowcount > 0
            connection.execute("PRAGMA ignore_check_constraints = OFF")

        self.desk.run(self.desk.treasury.store.transact(work))

    def spend(self, count: int = 1) -> None:
        for _ in range(count):
            self.settle(self.hold(1), 1)

    def ingest(self, at: int) -> None:
        answer = self.desk.ingest(event(timestamp=text_from_micros(at), idempotency_key=new_id().hex()))
        assert answer.status_code == 202


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    with open_desk(tmp_path) as desk:
        spender = Audited(desk)
        spender.recent = RecentBudgets()
        spender.create(name="big", limit="1000.00", period="monthly")
        yield spender


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


def failing(report: VerifyReport) -> set[str]:
    return {violation.check for violation in report.violations}


def test_sound_budgets_give_nothing_minute_by_minute(audited: Audited) -> None:
    for minute in range(12):
        audited.spend(3)
        audited.hold(2)
        audited.ask(Void(audited.hold(1).id))
        audited.ingest(audited.now - minute * MICROS_PER_MINUTE)
        report = audited.look()
        assert report.ok, report.violations
        audited.pass_minutes(7)
        audited.desk.run(audited.desk.treasury.enforcement.run_due())
    assert {check.name: check.checked > 3 for check in report.checks}["holds"]
    assert audited.desk.violations() == ()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE budget_window SET settled = settled + 1", "windows"),
        ("UPDATE budget_window SET held = held + 1", "windows"),
        ("UPDATE budget_window SET open_legs = open_legs + 1", "windows"),
        ("UPDATE budget_window SET limit_amount = 1", "windows"),
        ("UPDATE budget_window SET ends_at = ends_at + 1", "windows"),
        ("DELETE FROM budget_window", "windows"),
        ("DELETE FROM hold WHERE state = 'open'", "windows"),
        ("UPDATE hold SET ended_at = 5 WHERE state = 'open'", "holds"),
        ("UPDATE hold SET state = 'settled' WHERE state = 'open'", "holds"),
        ("UPDATE hold SET legs = x'00' WHERE state = 'open'", "holds"),
        ("UPDATE posting SET effect = 'late'", "holds"),
        ("UPDATE posting SET source = randomblob(16)", "postings"),
        ("UPDATE posting SET parts = x'00'", "postings"),
    ],
)
def test_damage_to_what_was_touched_is_found_at_once_and_stands(
    audited: Audited, damage: str, check: str
) -> None:
    audited.spend()
    assert audited.look().ok
    audited.pass_minutes()
    audited.spend()
    audited.hold(1)
    audited.spoil(damage)
    for _ in range(3):
        assert check in failing(audited.look())
        audited.pass_minutes()


def test_a_cured_window_is_no_violation_any_more(audited: Audited) -> None:
    audited.spend()
    assert audited.look().ok
    for change, is_ok in (("settled + 1", False), ("settled - 1", True)):
        audited.pass_minutes()
        audited.spoil(f"UPDATE budget_window SET settled = {change}")
        assert audited.look().ok is is_ok
    audited.spend()
    assert audited.look().ok


def test_a_lost_posting_is_found_whatever_became_of_its_hold(audited: Audited) -> None:
    audited.ingest(audited.now)
    assert audited.look().ok
    audited.pass_minutes()
    audited.ingest(audited.now)
    audited.spoil("DELETE FROM posting WHERE at = ?", audited.now)
    assert failing(audited.look()) == {"windows"}


def test_commits_at_the_same_instant_are_told_apart(audited: Audited) -> None:
    """The clock stands still, as it does after it was set back: the mark's instant is read again."""
    for _ in range(4):
        audited.spend(3)
        audited.ingest(audited.now)
        assert audited.look().ok
    audited.spoil("DELETE FROM posting WHERE source = (SELECT max(source) FROM posting)")
    assert "windows" in failing(audited.look())


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
        report, steps = audited.measured()
        assert report.ok
        costs.append(steps)
    assert costs[1] <= costs[0] + 2 * STEPS
    report, whole = audited.measured(lambda scope: proved(scope, BudgetRound(scope, 0)))
    assert report.ok
    assert whole > 50 * costs[1]


def _expire_ids(audited: Audited) -> None:
    """Pretend that the holds made before were given their ids an hour ago: only the last ones are new."""
    last = int.from_bytes(new_id()[:6], "big")
    audited.recent._last_hold = (last + 3_600_000).to_bytes(6, "big") + bytes(10)


def proved(scope: Scope, budget_round: BudgetRound) -> None:
    while not budget_round.step(scope):
        pass
    for violation in budget_round.findings.report().violations:
        scope.findings.add(violation)


@pytest.mark.parametrize(("most", "is_found"), [(SUMMED_MAX, True), (0, False)])
def test_late_spend_in_a_closed_window_is_added_up_anew_or_left_to_the_round(
    audited: Audited, most: int, is_found: bool
) -> None:
    audited.recent = RecentBudgets(summed_max=most)
    yesterday = audited.now
    audited.ingest(yesterday)
    audited.pass_minutes(24 * 60)
    audited.desk.run(audited.desk.treasury.enforcement.run_due())
    audited.spend()
    assert audited.look().ok
    audited.pass_minutes()
    audited.ingest(yesterday)
    assert audited.look().ok
    audited.pass_minutes()
    audited.ingest(yesterday)
    audited.spoil("UPDATE budget_window SET settled = settled + 1 WHERE state = 'closed'")
    assert audited.look().ok is not is_found
    assert not audited.look(lambda scope: proved(scope, BudgetRound(scope, 0))).ok


def test_memory_is_bounded_and_what_is_not_remembered_is_still_proved(audited: Audited) -> None:
    audited.recent = RecentBudgets(watched_max=3)
    audited.create(name="runs", limit="1.00", period="run")
    for number in range(8):
        audited.settle(audited.hold(1, BOT._replace(run=f"r-{number}")), 1)
        assert audited.look().ok
        audited.pass_minutes()
    assert len(audited.recent._settled) <= 4
    audited.settle(audited.hold(1, BOT._replace(run="r-9")), 1)
    audited.spoil("UPDATE budget_window SET settled = settled + 1 WHERE member = 'r-9'")
    assert failing(audited.look()) == {"windows"}


def test_a_round_proves_by_slices_over_many_snapshots(audited: Audited) -> None:
    audited.spend(4)
    rounds: list[BudgetRound] = []
    done = [False]

    def step(scope: Scope) -> None:
        if not rounds:
            rounds.append(BudgetRound(scope, 0, slice_min=3))
        done.append(rounds[0].step(scope))

    while not done[-1]:
        audited.look(step)
        audited.pass_minutes()
        audited.spend()
        assert len(done) < 50
    assert rounds[0].findings.report().ok
    assert len(done) > 3


def test_very_many_windows_are_proved_in_parts(audited: Audited) -> None:
    audited.create(name="runs", limit="1.00", period="run")
    for number in range(6):
        audited.settle(audited.hold(1, BOT._replace(run=f"r-{number}")), 1)
    audited.spoil("UPDATE budget_window SET settled = settled + 1 WHERE member = 'r-3'")
    found = [
        audited.look(
            lambda scope, n=number: proved(scope, BudgetRound(scope, n, windows_max=3))
        ).violations_count
        for number in range(3)
    ]
    assert sorted(found) == [0, 0, 1]


def test_the_metric_counts_what_stands_and_is_0_again_when_it_is_cured(audited: Audited) -> None:
    metrics = LedgerMetrics(CollectorRegistry())
    auditor = SqlAuditor(audited.desk.treasury.store, lambda: audited.now)
    job = AuditJob(auditor, metrics, lambda: audited.now)
    seen = []
    audited.spend(3)
    for change in ("settled", "settled + 1", "settled", "settled - 1", "settled"):
        audited.spoil(f"UPDATE budget_window SET settled = {change}")
        asyncio.run(job.run())
        seen.append(metrics.audit_violations._value.get())
        audited.pass_minutes()
        audited.spend()
        audited.now += MICROS_PER_MINUTE
    assert seen[0] == 0
    assert seen[1] > 0
    assert seen[2] > 0
    assert seen[4] == 0


def test_what_only_the_whole_shows_is_proved_within_the_day(audited: Audited) -> None:
    auditor = SqlAuditor(audited.desk.treasury.store, lambda: audited.now)
    audited.spend()
    assert asyncio.run(auditor.audit()).ok
    audited.spoil("UPDATE budget_window SET late = 900000000000")
    began = audited.now
    while asyncio.run(auditor.audit()).ok:
        audited.now += 30 * MICROS_PER_MINUTE
        assert audited.now - began <= ROUND_MICROS + MICROS_PER_HOUR < MICROS_PER_DAY
