"""At the edges: sums beyond 64 bits, names beyond their caps, a full disk, rolled-back names."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from audited_ledger import HOUR, NOON, AuditedLedger, event

from bursar.core.errors import AmountOverflow, StorageFull
from bursar.core.usage import TOKENS_MAX, UsageEvent
from bursar.storage.sql.directory import OTHER_NAME, Limits
from support.engines import Database

MUCH = 9_200_000_000 * 10**9  # 9.2e9 USD
AGENTS = """SELECT a.name FROM event e JOIN agent a ON a.org = e.org AND a.agent = e.agent
    WHERE e.org = 1 ORDER BY e.occurred_at"""


def in_order(*events: UsageEvent) -> list[UsageEvent]:
    return [event_at(one, NOON + place) for place, one in enumerate(events)]


def event_at(one: UsageEvent, at: int) -> UsageEvent:
    return type(one)(**{name: getattr(one, name) for name in one.__struct_fields__} | {"occurred_at": at})


def test_what_cannot_be_summed_is_set_aside_and_its_neighbours_count(ledger: AuditedLedger) -> None:
    receipt = ledger.take(
        [event("a"), event("b", reported_nusd=MUCH), event("c", reported_nusd=MUCH), event("d")]
    )
    assert (list(receipt.quarantined), receipt.recorded) == ([2], 3)
    assert ledger.number("SELECT SUM(requests) FROM agent_total") == 3
    ((reason, body),) = ledger.rows("SELECT reason, body FROM quarantine")
    assert "64 bits" in reason
    assert str(MUCH) in body


def test_a_large_request_sets_aside_one_event_too(ledger: AuditedLedger) -> None:
    events = [event(str(n), reported_nusd=MUCH if n in {10, 50} else None) for n in range(100)]
    receipt = ledger.take(events)
    assert (list(receipt.quarantined), receipt.recorded) == ([50], 99)


def test_a_revision_beyond_64_bits_leaves_the_old_effect(ledger: AuditedLedger) -> None:
    ledger.take([event("a", reported_nusd=MUCH), event("b")])
    before = ledger.totals()
    assert list(ledger.take([event("b", revision=1, reported_nusd=MUCH)]).quarantined) == [0]
    assert ledger.totals() == before
    assert ledger.number("SELECT revision FROM event_key WHERE key = ?", event("b").key) == 0


def test_the_largest_counts_sum_exactly(ledger: AuditedLedger) -> None:
    counts = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens"), TOKENS_MAX)
    ledger.take([event(str(n), **counts) for n in range(500)])
    assert ledger.number("SELECT input_tokens FROM agent_total") == 500 * TOKENS_MAX
    assert ledger.number("SELECT unpriced_requests FROM agent_total") == 0


def test_the_pipeline_itself_refuses_an_overflow_whole(ledger: AuditedLedger) -> None:
    ledger.post([event("a", reported_nusd=MUCH)])
    before = ledger.totals()
    with pytest.raises(AmountOverflow):
        ledger.post([event("b", agent="new"), event("c", reported_nusd=MUCH)])
    assert ledger.totals() == before
    assert ledger.number("SELECT count(*) FROM agent WHERE name = 'new'") == 0


def test_a_rolled_back_name_leaves_no_number_behind(ledger: AuditedLedger) -> None:
    """The group is rolled back whole, then one event of it again: both had made new names."""
    ledger.post([event("first", NOON + HOUR - 1, reported_nusd=MUCH)])
    receipt = ledger.take(in_order(
        event("a", agent="lost", project="lost", reported_nusd=MUCH, model="o3"),
        event("b", agent="kept", user="kept"),
        event("c", agent="lost2", reported_nusd=MUCH),
        event("d", agent="last", project="last"),
    ))  # fmt: skip
    assert list(receipt.quarantined) == [0, 2]
    ledger.take(
        in_order(*[event(f"later{n}", agent=name) for n, name in enumerate(("lost", "last", "lost2"))])
    )
    found = {name for (name,) in ledger.rows(AGENTS)}
    assert found == {"writer", "kept", "last", "lost", "lost2"}
    assert (
        ledger.rows("SELECT name, count(*) FROM agent WHERE org = 1 GROUP BY name HAVING count(*) > 1") == []
    )


def test_a_transaction_that_fails_late_forgets_its_names(ledger: AuditedLedger) -> None:
    ledger.post([event("first", reported_nusd=MUCH)])
    for agent in ("one", "two"):
        with pytest.raises(AmountOverflow):
            ledger.post([event("x", agent=agent, reported_nusd=MUCH)])
    ledger.post([event("y", NOON + 1, agent="two"), event("z", NOON + 2, agent="one")])
    assert ledger.rows(AGENTS) == [("writer",), ("two",), ("one",)]


@pytest.fixture
def capped(database: Database) -> Iterator[AuditedLedger]:
    opened = AuditedLedger(database, Limits(agents=2, others=3))
    yield opened
    assert opened.verify().violations == ()
    opened.close()


def test_names_beyond_the_cap_count_as_other_and_keep_their_text(capped: AuditedLedger) -> None:
    capped.post([event(str(n), NOON + n, agent=f"agent{n}", user=f"user{n}") for n in range(5)])
    assert capped.rows(AGENTS) == [("agent0",), ("agent1",), *[(OTHER_NAME,)] * 3]
    kept = capped.rows("SELECT attributes FROM event ORDER BY occurred_at")
    assert [json.loads(text or "{}") for (text,) in kept] == [
        {},
        {},
        {"agent": "agent2"},
        {"agent": "agent3", "user": "user3"},
        {"agent": "agent4", "user": "user4"},
    ]
    assert capped.number("SELECT requests FROM agent_total WHERE agent = 1") == 3


def test_models_beyond_the_cap_are_still_priced_by_their_name(capped: AuditedLedger) -> None:
    models = ["gpt-4o", "gpt-4o-mini", "o3", "o4-mini", "gpt-4.1"]
    capped.post([event(name, NOON + place, model=name) for place, name in enumerate(models)])
    assert capped.number("SELECT count(*) FROM model WHERE org = 1") == 4
    assert capped.number("SELECT count(*) FROM rate_card WHERE org = 1") == 5
    assert capped.number("SELECT SUM(unpriced_requests) FROM rollup_agent") == 0


def test_a_repeat_beyond_the_cap_is_a_repeat(capped: AuditedLedger) -> None:
    capped.post([event(str(n), agent=f"agent{n}", model=f"model{n}") for n in range(6)])
    again = capped.post(
        [event("5", agent="agent5", model="model5"), event("4", agent="agent5", model="model4")]
    )
    assert (list(again.duplicates), list(again.conflicts)) == ([0], [1])


def test_the_cap_is_each_organisations_own(capped: AuditedLedger) -> None:
    capped.post([event(str(n), agent=f"agent{n}") for n in range(5)])
    capped.post([event("a", agent="agent4")], capped.umbrella)
    assert capped.number("SELECT count(*) FROM agent WHERE org = 2 AND name = 'agent4'") == 1


@pytest.mark.parametrize("size", [1, 5, 64, 900])
def test_a_full_disk_leaves_nothing_half_done_and_heals(tmp_path: Path, size: int) -> None:
    """On SQLite, whose file can be told that there is no more room."""
    ledger = AuditedLedger(tmp_path)
    ledger.take([event(f"before{n}") for n in range(70)])
    before = ledger.totals()
    events = [
        event(f"e{n}", NOON + n * HOUR, agent=f"agent{n}", attributes={"text": "x" * 10_000})
        for n in range(size)
    ]
    writer = ledger.store._writer
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        ledger.take(events)
    assert ledger.totals() == before
    assert ledger.number("SELECT count(*) FROM event_key") == 70
    writer.execute("PRAGMA max_page_count = 1000000")
    assert ledger.take(events).recorded == size
    assert ledger.number("SELECT SUM(requests) FROM agent_total") == 70 + size
    assert ledger.verify().violations == ()
    ledger.close()


def test_many_small_requests_share_commits_and_get_their_own_receipts(ledger: AuditedLedger) -> None:
    ledger.post([event("known"), event("taken")])
    orgs = [ledger.acme, ledger.umbrella, ledger.initech]
    requests: list[tuple[int, list[UsageEvent]]] = []
    for number in range(200):
        of = number % 3
        mine = [
            event(f"{number}", agent=f"a{number % 7}", model="unheard-of" if number % 5 == 0 else "gpt-4o")
        ]
        if of == 0 and number % 2:
            mine += [event("known"), event("taken", input_tokens=number + 1_000)]
        requests.append((of, mine))

    async def all_at_once() -> list[object]:
        return await asyncio.gather(*(ledger.intake.record(orgs[of], mine) for of, mine in requests))

    receipts = ledger.wait(all_at_once())
    for (_, mine), receipt in zip(requests, receipts, strict=True):
        assert list(receipt.duplicates) == ([1] if len(mine) == 3 else [])
        assert list(receipt.conflicts) == ([2] if len(mine) == 3 else [])
        assert receipt.recorded == len(mine) - len(receipt.conflicts)
        assert receipt.unpriced == (mine[0].subject.model == "unheard-of")
    assert ledger.number("SELECT count(*) FROM event") == 202
    assert ledger.number("SELECT count(*) FROM batch") <= 1 + 3 * 6
