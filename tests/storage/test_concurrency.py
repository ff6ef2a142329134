"""Large and small requests at once, and callers that go away in the middle."""

import asyncio

import pytest
from audited_ledger import NOON, AuditedLedger, event

from bursar.core.usage import UsageEvent


def large(name: str, size: int = 300) -> list[UsageEvent]:
    return [event(f"{name}-{n}", NOON + n, agent=f"a{n % 9}", run=f"{name}{n // 20}") for n in range(size)]


def test_large_and_small_requests_take_turns(ledger: AuditedLedger) -> None:
    async def work() -> None:
        small = [ledger.intake.record(ledger.umbrella, [event(f"s{n}")]) for n in range(50)]
        big = [ledger.intake.record(ledger.acme, large(name)) for name in ("x", "y", "x")]
        receipts = await asyncio.gather(*small[:25], *big, *small[25:])
        assert sum(len(receipt.duplicates) for receipt in receipts) == 300

    ledger.wait(work())
    assert ledger.number("SELECT count(*) FROM event WHERE org = 1") == 600
    assert ledger.number("SELECT count(*) FROM event WHERE org = 2") == 50


def test_the_same_event_from_many_callers_counts_once(ledger: AuditedLedger) -> None:
    async def work() -> list[int]:
        receipts = await asyncio.gather(
            *(ledger.intake.record(ledger.acme, [event("one")]) for _ in range(100)),
            *(ledger.intake.record(ledger.acme, large("many", 100)) for _ in range(3)),
        )
        return [len(receipt.duplicates) for receipt in receipts]

    found = ledger.wait(work())
    assert sum(found[:100]) == 99
    assert sum(found[100:]) == 200


@pytest.mark.parametrize("turns", range(0, 12, 2))
def test_a_caller_that_goes_away_leaves_a_whole_batch_or_none(ledger: AuditedLedger, turns: int) -> None:
    async def work() -> None:
        leaving = [
            asyncio.create_task(ledger.intake.record(ledger.acme, large("gone"))),
            asyncio.create_task(ledger.intake.record(ledger.acme, [event("small")])),
        ]
        staying = asyncio.create_task(ledger.intake.record(ledger.acme, [event("stays", agent="a1")]))
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert (await staying).recorded == 1

    ledger.wait(work())
    assert ledger.number("SELECT count(*) FROM event WHERE run IS NOT NULL") in {0, 300}
    assert ledger.take([*large("gone"), event("small"), event("stays", agent="a1")]).recorded == 302
    assert ledger.number("SELECT SUM(requests) FROM agent_total") == 302
