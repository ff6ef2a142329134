"""The arithmetic by itself: histograms add up, and a correction is minus the old plus the new."""

from audited_ledger import HOUR, NOON, event
from hypothesis import given
from hypothesis import strategies as st

from bursar.core.ids import Org
from bursar.core.usage import Price
from bursar.ledger import histogram
from bursar.ledger.posting import Correction, correct, measures_of, post, revised_row
from bursar.ledger.rows import MEASURES, Measures, Refs

durations = st.lists(st.integers(0, 10**9), max_size=30)
NAMES = Refs(2, 3, 4, 5, 6, 0)
PRICED = (NAMES, Price(None, 77, 77), 1)
UNPRICED = (NAMES, Price(None, None, None), 0)


def packed(values: list[int]) -> bytes:
    return histogram.pack(histogram.buckets_of(values))


@given(durations, durations)
def test_histograms_merge_to_that_of_all(left: list[int], right: list[int]) -> None:
    assert histogram.merge(packed(left), packed(right)) == packed(left + right)


@given(durations, durations)
def test_a_reversal_leaves_no_trace_in_a_histogram(left: list[int], right: list[int]) -> None:
    reversal = histogram.pack(histogram.buckets_of(right, -1))
    assert histogram.merge(packed(left + right), reversal) == packed(left)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_off_by_a_bucket_at_most(values: list[int], share: float) -> None:
    found = histogram.quantile_ms(packed(values), share)
    place = max(-(-int(share * 100) * len(values) // 100) - 1, 0)
    exact = sorted(values)[place]
    assert found is not None
    assert exact // 2 <= found + 1
    assert found <= max(2 * exact, 1)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert histogram.quantile_ms(histogram.EMPTY, 0.5) is None


def test_every_roll_up_gets_the_same_sum() -> None:
    events = [event(str(n), NOON + n * HOUR // 3, run=f"r{n % 2}", output_tokens=n) for n in range(7)]
    rollups = post(Org(1), 1, events, [PRICED] * 7).rollups
    for deltas in (rollups.by_agent, rollups.by_project, rollups.by_feature, rollups.by_user, rollups.agents):
        total = Measures(*map(sum, zip(*(sums.measures for sums in deltas.values()), strict=True)))
        assert (total.requests, total.output_tokens, total.cost_nusd) == (7, 21, 7 * 77)
    assert sum(run.sums.measures[0] for run in rollups.runs.values()) == 7
    assert rollups.hours == [NOON, NOON + HOUR, NOON + 2 * HOUR]


def test_an_unpriced_event_adds_no_cost_and_is_counted() -> None:
    posting = post(Org(1), 1, [event("a", input_tokens=5, output_tokens=6, input_audio_tokens=7)], [UNPRICED])
    ((sums),) = posting.rollups.agents.values()
    assert Measures(*sums.measures)[:5] == (1, 0, 1, 18, 0)
    assert len(posting.unpriced) == 1


def test_a_correction_is_minus_the_old_and_plus_the_new() -> None:
    old = revised_row(Org(1), 1, event("a", input_tokens=5, duration_ms=10), PRICED)
    new = revised_row(Org(1), 2, event("a", NOON + HOUR, input_tokens=8, duration_ms=10), UNPRICED)
    rollups = correct([Correction(old, new, ("", ""), ("", ""), None)])
    minus, plus = (rollups.by_user[NOON + hour, 6].measures for hour in (0, HOUR))
    assert minus == tuple(-value for value in measures_of(old))
    assert plus == measures_of(new)
    ((total),) = rollups.agents.values()
    assert dict(zip(MEASURES, total.measures, strict=True))["input_tokens"] == 3
    assert rollups.hours == [NOON, NOON + HOUR]
