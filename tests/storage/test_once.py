"""Keys, duplicates, conflicts and revisions, one case each, over the real file."""

import pytest
from audited_ledger import HOUR, NOON, AuditedLedger, event

from bursar.core.usage import UsageEvent

BASE = {"run": "r", "reported_nusd": 5, "web_searches": 1}


def requests(ledger: AuditedLedger) -> int:
    return ledger.number("SELECT SUM(requests) FROM rollup_agent WHERE org = 1")


def test_a_key_counts_once_within_a_batch_and_across(ledger: AuditedLedger) -> None:
    first = ledger.post([event("a"), event("b"), event("a")])
    assert (first.recorded, list(first.duplicates)) == (3, [2])
    again = ledger.post([event("b"), event("c"), event("a")])
    assert (again.recorded, list(again.duplicates), again.batch) == (3, [0, 2], 2)
    assert requests(ledger) == 3


def test_a_key_is_an_organisations_own(ledger: AuditedLedger) -> None:
    ledger.post([event("a")])
    assert not ledger.post([event("a")], ledger.umbrella).duplicates
    assert ledger.number("SELECT count(*) FROM event") == 2


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "other"},
        {"agent": ""},
        {"provider": "azure"},
        {"model": "o3"},
        {"input_tokens": 101},
        {"output_tokens": 11},
        {"reasoning_tokens": 1},
        {"cache_read_tokens": 1},
        {"cache_write_5m_tokens": 1},
        {"cache_write_1h_tokens": 1},
        {"web_searches": 2},
        {"input_audio_tokens": 1},
        {"reported_nusd": 6},
        {"reported_nusd": None},
        {"is_error": True},
        {"at": NOON + 1},
    ],
)
def test_other_content_under_a_known_key_is_a_conflict(
    ledger: AuditedLedger, other: dict[str, object]
) -> None:
    ledger.post([event("a", **BASE)])
    before = ledger.totals()
    result = ledger.post([event("a", **(BASE | other))])
    assert (list(result.conflicts), result.recorded, result.batch) == ([0], 0, None)
    assert ledger.totals() == before


@pytest.mark.parametrize(
    "other",
    [
        {"project": "p"},
        {"user": "u"},
        {"feature": "f"},
        {"duration_ms": 9},
        {"attributes": {"x": 1}},
        {"run": "s"},
    ],
)
def test_what_is_no_content_makes_no_conflict(ledger: AuditedLedger, other: dict[str, object]) -> None:
    ledger.post([event("a", **BASE)])
    assert list(ledger.post([event("a", **(BASE | other))]).duplicates) == [0]


@pytest.mark.parametrize(
    "moved",
    [
        {"at": NOON + 50 * HOUR},
        {"agent": "other"},
        {"model": "o3"},
        {"model": "unheard-of", "reported_nusd": None},
        {"run": "s"},
        {"run": ""},
        {"project": "p", "feature": "f", "user": "u"},
    ],
)
def test_a_revision_moves_the_whole_effect(ledger: AuditedLedger, moved: dict[str, object]) -> None:
    ledger.post([event("a", **BASE), event("neighbour")])
    revised = event("a", revision=1, **(BASE | {"input_tokens": 7} | moved))
    ledger.post([revised])
    fresh = ledger.new_org()
    ledger.post([event("neighbour"), revised], fresh)
    assert ledger.effects() == ledger.effects(fresh)
    assert ledger.rows("SELECT sign FROM entry ORDER BY seq") == [(-1,), (1,)]


def test_revisions_go_up_only(ledger: AuditedLedger) -> None:
    ledger.post([event("a", input_tokens=1)])
    ledger.post([event("a", revision=5, input_tokens=5)])
    lower = ledger.post([event("a", revision=4, input_tokens=4)])
    same = ledger.post([event("a", revision=5, input_tokens=5)])
    other = ledger.post([event("a", revision=5, input_tokens=6)])
    assert (list(lower.duplicates), list(same.duplicates), list(other.conflicts)) == ([0], [0], [0])
    ledger.post([event("a", revision=6, input_tokens=6)])
    assert ledger.number("SELECT SUM(input_tokens) FROM rollup_user") == 6
    assert ledger.rows("SELECT corrects FROM entry ORDER BY seq") == [(None,), (None,), (2,), (2,)]


def test_a_revision_and_its_first_may_come_together_in_any_order(ledger: AuditedLedger) -> None:
    up = [event("a", input_tokens=1), event("a", revision=1, input_tokens=2)]
    down = [event("b", revision=1, input_tokens=20), event("b", input_tokens=10)]
    result = ledger.post([*up, *down])
    assert (list(result.duplicates), result.recorded) == ([3], 4)
    assert ledger.number("SELECT SUM(input_tokens) FROM agent_total") == 22
    assert ledger.rows("SELECT events, entries FROM batch") == [(2, 2)]


def stamped(at: int, **fields: object) -> UsageEvent:
    return event("s", at, time_stamped=True, **fields)


def test_a_stamped_time_is_stamped_once(ledger: AuditedLedger) -> None:
    ledger.post([stamped(NOON)])
    assert list(ledger.post([stamped(NOON + 5 * HOUR)]).duplicates) == [0]
    ledger.post([stamped(NOON + 9 * HOUR, revision=1, output_tokens=0)])
    assert ledger.rows("SELECT DISTINCT hour FROM rollup_agent") == [(NOON,)]
    assert list(ledger.post([event("s", NOON + 1, output_tokens=0, revision=1)]).conflicts) == [0]


def test_a_batch_that_changes_nothing_takes_no_number(ledger: AuditedLedger) -> None:
    assert ledger.post([event("a")]).batch == 1
    assert ledger.post([event("a"), event("a", input_tokens=0)]).batch is None
    assert ledger.post([event("b")]).batch == 2
