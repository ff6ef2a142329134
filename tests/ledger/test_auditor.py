"""The background auditor: what was touched at once, everything each day, and a metric that stays."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from audited_ledger import HOUR, NOON, AuditedLedger, event, fill
from prometheus_client import CollectorRegistry

from bursar.jobs.audit import AuditJob
from bursar.jobs.schedule import Job, Schedule
from bursar.ledger.verification import VerifyReport
from bursar.storage.sql.verify_slices import ROUND_MICROS, SqlAuditor
from bursar.storage.sqlite.store import SqliteTransaction
from bursar.web.metrics import LedgerMetrics

MINUTE = HOUR // 60
SPOIL_ROLLUP = "UPDATE rollup_user SET requests = requests + 1 WHERE org = 1 AND hour = ?"
CURE_ROLLUP = "UPDATE rollup_user SET requests = requests - 1 WHERE org = 1 AND hour = ?"


@pytest.fixture
def auditor(ledger: AuditedLedger) -> SqlAuditor:
    return SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: ledger.now)


def audit(auditor: SqlAuditor) -> VerifyReport:
    return asyncio.run(auditor.audit())


async def until(holds: Callable[[], bool]) -> None:
    """Wait at most two seconds for what another thread does."""
    async with asyncio.timeout(2):
        while not holds():  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0)


def spoil(ledger: AuditedLedger, sql: str, *values: object) -> None:
    async def work(transaction: SqliteTransaction) -> None:
        assert transaction.connection.execute(sql, values).rowcount > 0

    ledger.run(work)


def marks(ledger: AuditedLedger) -> dict[str, int]:
    return dict(ledger.rows("SELECT name, value FROM audit_mark WHERE org = 1"))


def test_a_good_ledger_gives_nothing_all_day(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    fill(ledger)
    for _ in range(30):
        assert audit(auditor).ok
        ledger.now += HOUR
    assert ledger.verify().ok


def test_a_touched_hour_is_proved_at_the_next_run(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    audit(auditor)
    ledger.post([event("a")])
    spoil(ledger, SPOIL_ROLLUP, NOON)
    report = audit(auditor)
    assert [violation.table for violation in report.violations] == ["rollup_user"]
    assert marks(ledger)["batch"] == 1


def test_an_untouched_hour_is_proved_within_the_day(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(100)])
    assert audit(auditor).ok
    spoil(ledger, SPOIL_ROLLUP, NOON + 60 * HOUR)
    found_after = 0
    while audit(auditor).ok:
        ledger.now += 10 * MINUTE
        found_after += 1
    assert 0 < found_after * 10 * MINUTE <= ROUND_MICROS


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run SET requests = requests + 1 WHERE org = 1",
        "UPDATE agent_total SET requests = requests + 1 WHERE org = 1",
        "UPDATE batch SET events = events + 1 WHERE org = 1 AND seq = 1",
        "DELETE FROM batch WHERE org = 1 AND seq = 1",
        "UPDATE entry SET reason = 'other' WHERE org = 1 AND seq = 1",
        "INSERT INTO event_key VALUES (1, zeroblob(16), 0, 0)",
    ],
)
def test_totals_are_proved_within_the_day(ledger: AuditedLedger, auditor: SqlAuditor, damage: str) -> None:
    ledger.post([event(str(n), run=f"r{n}") for n in range(3)])
    ledger.post([event("1", revision=1)])
    assert audit(auditor).ok
    spoil(ledger, damage)
    for _ in range(25):
        ledger.now += HOUR
        audit(auditor)
    assert not audit(auditor).ok


def test_a_violation_stands_until_it_is_cured(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    metrics = LedgerMetrics(CollectorRegistry())
    job = AuditJob(auditor, metrics, lambda: ledger.now)
    ledger.post([event("a")])
    spoil(ledger, SPOIL_ROLLUP, NOON)
    for _ in range(3):
        asyncio.run(job.run())
        assert metrics.audit_violations._value.get() == 1
        ledger.now += MINUTE
    spoil(ledger, CURE_ROLLUP, NOON)
    asyncio.run(job.run())
    assert metrics.audit_violations._value.get() == 0
    assert metrics.audited_at._value.get() == ledger.now / 1_000_000


def test_a_new_process_goes_on_where_the_last_one_stood(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(50)])
    audit(auditor)
    ledger.now += 5 * HOUR
    audit(auditor)
    assert NOON < marks(ledger)["position"] < NOON + 50 * HOUR
    before = marks(ledger)
    successor = SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: ledger.now)
    assert audit(successor).ok
    assert marks(ledger)["round"] == before["round"]
    assert marks(ledger)["position"] >= before["position"]


def test_the_loop_goes_on_while_the_auditor_reads(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    fill(ledger)

    async def both() -> int:
        auditing = asyncio.create_task(auditor.audit())
        turns = 0
        while not auditing.done():
            await asyncio.sleep(0)
            turns += 1
        assert auditing.result().ok
        return turns

    assert asyncio.run(both()) > 10


def test_a_cancelled_audit_ends_at_once_and_leaves_no_marks(
    ledger: AuditedLedger, auditor: SqlAuditor
) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(600)])

    async def cancelled() -> None:
        auditing = asyncio.create_task(auditor.audit())
        await until(lambda: auditor._snapshots.is_reading)
        auditing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await auditing
        await until(lambda: not auditor._snapshots.is_reading)

    asyncio.run(cancelled())
    assert marks(ledger) == {}
    assert audit(auditor).ok
    assert marks(ledger)["batch"] == 1


def test_a_slow_audit_is_followed_by_a_rest(ledger: AuditedLedger) -> None:
    ticks = iter(range(NOON, NOON + 10 * HOUR, MINUTE))
    # Every look at the clock is a minute later.
    slow = SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: next(ticks))
    first = audit(slow)
    assert [audit(slow) is first for _ in range(12)] == [True] * 9 + [False] * 3


def test_a_damaged_file_is_a_violation_not_a_failed_job(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(300)])
    writer = ledger.store._writer
    assert writer is not None
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.path.open("r+b") as file:
        for page in range(30, ledger.path.stat().st_size // 8192):
            file.seek(page * 8192)
            file.write(b"\xff" * 4096)
    assert [violation.check for violation in audit(auditor).violations] == ["file"]


def test_an_audit_does_not_delay_the_end_of_a_server() -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def alone(_job: str) -> AsyncIterator[bool]:
        yield True

    async def gather() -> None:
        ran.append("gather")

    async def look() -> None:
        ran.append("look")

    async def work() -> None:
        schedule = Schedule([Job("gather", HOUR, gather, gathers=True), Job("audit", HOUR, look)], alone)
        schedule.start()
        await schedule.stop()

    asyncio.run(work())
    assert ran == ["gather"]
