"""The learned output: bounded, mergeable, never below the quantile it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.budgets.amounts import Amounts
from bursar.budgets.estimate import (
    BUCKETS_MAX,
    LEARNED_FROM,
    OUTPUT_CAP,
    OUTPUT_DEFAULT,
    WEIGHT_MAX,
    OutputSketch,
    bucket_of,
    estimated,
    merged,
    sketch_from,
)
from bursar.core.usage import TOKENS_MAX

outputs = st.lists(st.integers(0, 200_000), min_size=1, max_size=200)


def learned(tokens: list[int]) -> OutputSketch:
    sketch = OutputSketch()
    for count in tokens:
        sketch.add(count)
    return sketch


@given(outputs, st.integers(1, 1_000_000))
def test_a_quantile_is_never_below_the_true_one_and_at_most_a_tenth_above(
    tokens: list[int], ppm: int
) -> None:
    rank = -(-len(tokens) * ppm // 1_000_000)
    exact = sorted(tokens)[rank - 1]
    found = learned(tokens).quantile(ppm)
    assert found is not None
    assert exact <= found <= exact * 11 // 10 + 1


@given(outputs, outputs, outputs)
def test_merging_is_learning_together_in_any_order(a: list[int], b: list[int], c: list[int]) -> None:
    whole = learned([*a, *b, *c])
    assert merged([learned(a), learned(b), learned(c)]) == whole
    assert merged([learned(c), merged([learned(b), learned(a)])]) == whole
    assert sketch_from(whole.counts, whole.margin_ppm) == whole


def test_a_sketch_stays_small_and_follows_an_agent_that_changes() -> None:
    sketch = learned([10] * WEIGHT_MAX)
    for _ in range(40):
        for n in range(WEIGHT_MAX // 4):
            sketch.add(5_000 + n)
    assert sketch.weight < WEIGHT_MAX
    assert len(sketch.counts) <= BUCKETS_MAX
    assert (sketch.quantile(100_000) or 0) >= 5_000


@pytest.mark.parametrize("tokens", [-1, 0, 1, 2, 10, 11, 32_768, TOKENS_MAX])
def test_every_count_has_a_bucket_that_bounds_it(tokens: int) -> None:
    assert 0 <= bucket_of(tokens) < BUCKETS_MAX
    assert (learned([tokens]).quantile() or 0) >= tokens


def test_a_sketch_that_has_seen_nothing_says_nothing() -> None:
    assert OutputSketch().quantile() is None


def test_overruns_raise_the_margin_and_good_holds_lower_it() -> None:
    sketch = learned([100] * 50)
    before = sketch.quantile() or 0
    sketch.add(100, has_overrun=True)
    raised = sketch.quantile() or 0
    for _ in range(2_000):
        sketch.add(100)
    assert before < raised
    assert (sketch.quantile() or 0) < raised


def price(input_tokens: int, output_tokens: int) -> int | None:
    return 3 * input_tokens + 15 * output_tokens


def test_the_callers_own_bound_is_what_is_held() -> None:
    sketch = learned([9_999] * 100)
    found = estimated(price, input_tokens=10, max_output_tokens=7, deadline_ms=50, sketch=sketch)
    assert (found.max_output_tokens, found.is_learned) == (7, False)
    assert found.amounts == Amounts(135, 17, 10, 7, 1, 50)
    assert found.sized(2).cost_nusd == 60


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], OUTPUT_DEFAULT),
        ([5] * (LEARNED_FROM - 1), OUTPUT_DEFAULT),
        ([5] * LEARNED_FROM, 5),
        ([10**6] * LEARNED_FROM, OUTPUT_CAP),
        ([0] * LEARNED_FROM, 1),
    ],
)
def test_without_a_bound_the_learned_output_is_held_up_to_the_cap(history: list[int], expected: int) -> None:
    found = estimated(price, input_tokens=0, max_output_tokens=None, deadline_ms=1, sketch=learned(history))
    assert expected <= found.max_output_tokens <= expected * 11 // 10 + 1
    assert found.max_output_tokens <= OUTPUT_CAP


def test_an_unknown_price_stays_unknown() -> None:
    found = estimated(lambda _i, _o: None, input_tokens=5, max_output_tokens=5, deadline_ms=1)
    assert found.amounts.cost_nusd is None
    assert found.amounts.tokens_total == 10
