"""The background auditor: what was touched at once, everything each day, and a metric that stays."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from audited_ledger import HOUR, NOON, AuditedLedger, event, fill
from prometheus_client import CollectorRegistry

from bursar.jobs.audit import AuditJob
from bursar.jobs.schedule import Job, Schedule
from bursar.storage.sql.verify_slices import ROUND_MICROS, SqlAuditor
from bursar.web.metrics import LedgerMetrics
from support.damage import inflict

MINUTE = HOUR // 60
SPOIL_ROLLUP = "UPDATE rollup_user SET requests = requests + 1 WHERE org = 1 AND hour = {}"
CURE_ROLLUP = "UPDATE rollup_user SET requests = requests - 1 WHERE org = 1 AND hour = {}"


@pytest.fixture
def auditor(ledger: AuditedLedger) -> SqlAuditor:
    return SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: ledger.now)


async def until(holds: Callable[[], bool]) -> None:
    """Wait at most two seconds for what another thread does."""
    async with asyncio.timeout(2):
        while not holds():  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0)


def spoil(ledger: AuditedLedger, sql: str) -> None:
    assert inflict(ledger.database, sql) > 0


def marks(ledger: AuditedLedger) -> dict[str, int]:
    return dict(ledger.rows("SELECT name, value FROM audit_mark WHERE org = 1"))


def test_a_good_ledger_gives_nothing_all_day(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    fill(ledger)
    for _ in range(30):
        assert ledger.wait(auditor.audit()).ok
        ledger.now += HOUR
    assert ledger.verify().ok


def test_a_touched_hour_is_proved_at_the_next_run(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.wait(auditor.audit())
    ledger.post([event("a")])
    spoil(ledger, SPOIL_ROLLUP.format(NOON))
    report = ledger.wait(auditor.audit())
    assert [violation.table for violation in report.violations] == ["rollup_user"]
    assert marks(ledger)["batch"] == 1


def test_hours_between_touched_ones_are_left_to_the_round(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in (0, 1, 5, 9)])
    assert ledger.wait(auditor.audit()).ok
    spoil(ledger, SPOIL_ROLLUP.format(NOON + 5 * HOUR))
    ledger.post([event(f"late {n}", at=NOON + n * HOUR) for n in (1, 9)])
    assert ledger.wait(auditor.audit()).ok
    spoil(ledger, SPOIL_ROLLUP.format(NOON + 9 * HOUR))
    ledger.post([event(f"later {n}", at=NOON + n * HOUR) for n in (1, 9)])
    assert not ledger.wait(auditor.audit()).ok


def test_an_untouched_hour_is_proved_within_the_day(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(100)])
    assert ledger.wait(auditor.audit()).ok
    spoil(ledger, SPOIL_ROLLUP.format(NOON + 60 * HOUR))
    found_after = 0
    while ledger.wait(auditor.audit()).ok:
        ledger.now += HOUR
        found_after += 1
    assert 0 < found_after * HOUR <= ROUND_MICROS


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
    assert ledger.wait(auditor.audit()).ok
    spoil(ledger, damage)
    for _ in range(25):
        ledger.now += HOUR
        ledger.wait(auditor.audit())
    assert not ledger.wait(auditor.audit()).ok


def test_a_violation_stands_until_it_is_cured(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    metrics = LedgerMetrics(CollectorRegistry())
    job = AuditJob(auditor, metrics, lambda: ledger.now)
    ledger.post([event("a")])
    spoil(ledger, SPOIL_ROLLUP.format(NOON))
    for _ in range(3):
        ledger.wait(job.run())
        assert metrics.audit_violations._value.get() == 1
        ledger.now += MINUTE
    spoil(ledger, CURE_ROLLUP.format(NOON))
    ledger.wait(job.run())
    assert metrics.audit_violations._value.get() == 0
    assert metrics.audited_at._value.get() == ledger.now / 1_000_000


def test_a_new_process_goes_on_where_the_last_one_stood(ledger: AuditedLedger, auditor: SqlAuditor) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(50)])
    ledger.wait(auditor.audit())
    ledger.now += 5 * HOUR
    ledger.wait(auditor.audit())
    assert NOON < marks(ledger)["position"] < NOON + 50 * HOUR
    before = marks(ledger)
    successor = SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: ledger.now)
    assert ledger.wait(successor.audit()).ok
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

    assert ledger.wait(both()) > 10


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

    ledger.wait(cancelled())
    assert marks(ledger) == {}
    assert ledger.wait(auditor.audit()).ok
    assert marks(ledger)["batch"] == 1


def test_a_slow_audit_is_followed_by_a_rest(ledger: AuditedLedger) -> None:
    ticks = iter(range(NOON, NOON + 10 * HOUR, MINUTE))
    # Every look at the clock is a minute later.
    slow = SqlAuditor(ledger.engine.snapshots(), ledger.store, lambda: next(ticks))
    first = ledger.wait(slow.audit())
    assert [ledger.wait(slow.audit()) is first for _ in range(12)] == [True] * 9 + [False] * 3


def tear_pages(ledger: AuditedLedger) -> None:
    writer = ledger.store._writer
    assert writer is not None
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.path.open("r+b") as file:
        for page in range(30, ledger.path.stat().st_size // 8192):
            file.seek(page * 8192)
            file.write(b"\xff" * 4096)


def lose_table(ledger: AuditedLedger) -> None:
    inflict(ledger.database, "ALTER TABLE rate_card RENAME TO lost; DELETE FROM lost")


UNREADABLE = {"sqlite": tear_pages, "postgres": lose_table}


def test_what_cannot_be_read_is_a_violation_not_a_failed_job(
    ledger: AuditedLedger, auditor: SqlAuditor
) -> None:
    ledger.post([event(str(n), at=NOON + n * HOUR) for n in range(300)])
    UNREADABLE[ledger.database.kind](ledger)
    assert [violation.check for violation in ledger.wait(auditor.audit()).violations] == ["file"]


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
