"""The auditor beside a server that spends: what was touched each minute, everything within the day."""

from collections.abc import Iterator

import pytest
from audited_spender import Audited, open_audited, proved
from prometheus_client import CollectorRegistry

from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE
from bursar.enforcement.questions import Void
from bursar.jobs.audit import AuditJob
from bursar.ledger.verification import VerifyReport
from bursar.storage.sql.verify_recent import SUMMED_MAX, RecentBudgets
from bursar.storage.sql.verify_rounds import ROUND_MICROS, BudgetRound
from bursar.storage.sql.verify_scope import Scope
from bursar.storage.sql.verify_slices import SqlAuditor
from bursar.web.metrics import LedgerMetrics
from support.engines import Database
from support.spender import BOT


@pytest.fixture
def audited(database: Database) -> Iterator[Audited]:
    with open_audited(database) as spender:
        yield spender


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
    audited.spoil(f"DELETE FROM posting WHERE at = {audited.now}")
    assert failing(audited.look()) == {"windows"}


def test_commits_at_the_same_instant_are_told_apart(audited: Audited) -> None:
    """The clock stands still, as it does after it was set back: the mark's instant is read again."""
    for _ in range(4):
        audited.spend(3)
        audited.ingest(audited.now)
        assert audited.look().ok
    audited.spoil(
        "DELETE FROM posting WHERE source = (SELECT source FROM posting ORDER BY source DESC LIMIT 1)"
    )
    assert "windows" in failing(audited.look())


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
    auditor = SqlAuditor(
        audited.desk.treasury.engine.snapshots(), audited.desk.treasury.store, lambda: audited.now
    )
    job = AuditJob(auditor, metrics, lambda: audited.now)
    seen = []
    audited.spend(3)
    for change in ("settled", "settled + 1", "settled", "settled - 1", "settled"):
        audited.spoil(f"UPDATE budget_window SET settled = {change}")
        audited.desk.run(job.run())
        seen.append(metrics.audit_violations._value.get())
        audited.pass_minutes()
        audited.spend()
        audited.now += MICROS_PER_MINUTE
    assert seen[0] == 0
    assert seen[1] > 0
    assert seen[2] > 0
    assert seen[4] == 0


def test_what_only_the_whole_shows_is_proved_within_the_day(audited: Audited) -> None:
    auditor = SqlAuditor(
        audited.desk.treasury.engine.snapshots(), audited.desk.treasury.store, lambda: audited.now
    )
    audited.spend()
    assert audited.desk.run(auditor.audit()).ok
    audited.spoil("UPDATE budget_window SET late = 900000000000")
    began = audited.now
    while audited.desk.run(auditor.audit()).ok:
        audited.now += 2 * MICROS_PER_HOUR
        assert audited.now - began <= ROUND_MICROS + 2 * MICROS_PER_HOUR < MICROS_PER_DAY
