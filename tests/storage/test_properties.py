"""Whatever comes, in whatever order and however often: the sums are those of the winning events."""

from collections.abc import Sequence
from typing import Any

from audited_ledger import HOUR, NOON, AuditedLedger, event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar.core.ids import Org
from bursar.core.usage import Billing, UsageEvent

FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COUNT_BATCHES = "SELECT count(*) FROM batch WHERE org = ?"
COUNT_ENTRIES = "SELECT count(*) FROM entry WHERE org = ?"
names = st.sampled_from(["", "a", "b"])
counts = st.sampled_from([0, 1, 7, 10**6, 10**12])
contents = st.fixed_dictionaries(
    {
        "at": st.sampled_from([NOON, NOON + 1, NOON + HOUR, NOON - 30 * HOUR, -HOUR - 1]),
        "agent": names,
        "model": st.sampled_from(["gpt-4o", "o3", "unheard-of"]),
        "project": names,
        "feature": names,
        "user": names,
        "run": names,
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_tokens": counts,
        "output_audio_tokens": st.sampled_from([0, 0, 3]),
        "web_searches": st.sampled_from([0, 0, 2]),
        "duration_ms": st.integers(0, 10**6),
        "reported_nusd": st.sampled_from([None, 0, 1, 10**12]),
        "is_error": st.booleans(),
        "billing": st.sampled_from(Billing),
        "time_stamped": st.just(False),
    }
)
addresses = st.tuples(st.integers(0, 5), st.integers(0, 3))  # which key, which revision
versions = st.dictionaries(addresses, contents, min_size=1, max_size=10)
heaps = st.lists(st.tuples(addresses, contents), min_size=1, max_size=10)


def made(address: tuple[int, int], content: dict[str, Any]) -> UsageEvent:
    key, revision = address
    return event(f"k{key}", revision=revision, **content)


def sliced(events: Sequence[UsageEvent], sizes: Sequence[int]) -> list[list[UsageEvent]]:
    """Cut a list into batches of the given sizes, again and again, until nothing is left."""
    rest, batches = list(events), []
    while rest:
        size = sizes[len(batches) % len(sizes)]
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


def written(ledger: AuditedLedger, org: Org) -> list[tuple[Any, ...]]:
    """How many batches and entries there are."""
    return ledger.rows(f"{COUNT_BATCHES} UNION ALL {COUNT_ENTRIES}", org, org)


@FEW
@given(heap=heaps, sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_replaying_changes_nothing(
    shared: AuditedLedger, heap: list[tuple[tuple[int, int], dict[str, Any]]], sizes: list[int]
) -> None:
    org = shared.new_org()
    batches = sliced([made(*version) for version in heap], sizes)
    for batch in batches:
        shared.post(batch, org)
    before = shared.totals(org)
    count = written(shared, org)
    for batch in [*reversed(batches), *batches]:
        assert shared.post(batch, org).batch is None
    assert shared.totals(org) == before
    assert written(shared, org) == count


@FEW
@given(versions=versions, data=st.data(), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_the_order_of_batches_changes_no_total(
    shared: AuditedLedger,
    versions: dict[tuple[int, int], dict[str, Any]],
    data: st.DataObject,
    sizes: list[int],
) -> None:
    events = [made(*version) for version in versions.items()]
    outcomes = []
    for order in (events, data.draw(st.permutations(events))):
        org = shared.new_org()
        for batch in sliced(order, sizes):
            shared.post(batch, org)
        outcomes.append(shared.effects(org))
    assert outcomes[0] == outcomes[1]


@FEW
@given(versions=versions, sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_the_highest_revision_of_each_key_is_what_counts(
    shared: AuditedLedger, versions: dict[tuple[int, int], dict[str, Any]], sizes: list[int]
) -> None:
    org = shared.new_org()
    for batch in sliced([made(*version) for version in versions.items()], sizes):
        shared.post(batch, org)
    winners = [made(*version) for version in sorted(versions.items()) if version[0] == max(
        address for address in versions if address[0] == version[0][0])]  # fmt: skip
    prices = [shared.book.price(winner).cost_nusd for winner in winners]
    expected = (
        len(winners),
        sum(winner.is_error for winner in winners),
        sum(price is None for price in prices),
        sum(price or 0 for price in prices),
        sum(winner.input_tokens for winner in winners),
        sum(winner.media_tokens for winner in winners),
        sum(winner.duration_ms for winner in winners),
    )
    columns = (
        "requests",
        "errors",
        "unpriced_requests",
        "cost_nusd",
        "input_tokens",
        "media_tokens",
        "duration_ms",
    )
    for table in ("rollup_agent", "rollup_project", "rollup_feature", "rollup_user", "agent_total"):
        totals = ", ".join(f"SUM({column})" for column in columns)
        assert shared.rows(f"SELECT {totals} FROM {table} WHERE org = ?", org) == [expected]
