"""Which cost counts under each basis."""

from collections.abc import Callable
from typing import Any

import pytest

from bursar.core.usage import Billing, UsageEvent
from bursar.pricing.basis import CostBasis
from bursar.pricing.engine import PriceBook

MakeEvent = Callable[..., UsageEvent]

COMPUTED = 2_500_000


@pytest.mark.parametrize(
    ("basis", "reported", "expected"),
    [
        (CostBasis.AUTO, None, COMPUTED),
        (CostBasis.AUTO, 0, COMPUTED),
        (CostBasis.AUTO, 7, 7),
        (CostBasis.REPORTED, None, None),
        (CostBasis.REPORTED, 0, 0),
        (CostBasis.REPORTED, 7, 7),
        (CostBasis.COMPUTED, None, COMPUTED),
        (CostBasis.COMPUTED, 0, COMPUTED),
        (CostBasis.COMPUTED, 7, COMPUTED),
    ],
)
def test_the_basis_decides_and_the_computed_cost_is_kept(
    event: MakeEvent, basis: CostBasis, reported: int | None, expected: int | None
) -> None:
    price = PriceBook(basis=basis).price(
        event("gpt-4o", "openai", input_tokens=1_000, reported_nusd=reported)
    )

    assert price.computed_nusd == COMPUTED
    assert price.cost_nusd == expected


@pytest.mark.parametrize(
    ("basis", "reported", "expected"),
    [
        (CostBasis.AUTO, None, None),
        (CostBasis.AUTO, 0, None),
        (CostBasis.AUTO, 7, 7),
        (CostBasis.REPORTED, 7, 7),
        (CostBasis.COMPUTED, 7, None),
    ],
)
def test_without_a_price_only_a_report_can_count(
    event: MakeEvent, basis: CostBasis, reported: int | None, expected: int | None
) -> None:
    price = PriceBook(basis=basis).price(event("no-such-model", input_tokens=1, reported_nusd=reported))

    assert price == (None, None, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"input_tokens": 0},
        {"input_tokens": 1, "is_error": True},
        {"input_tokens": 1, "billing": Billing.SUBSCRIPTION},
    ],
)
def test_a_reported_zero_is_believed_where_nothing_is_to_be_paid(
    event: MakeEvent, fields: dict[str, Any]
) -> None:
    assert PriceBook().price(event("gpt-4o", "openai", reported_nusd=0, **fields)).cost_nusd == 0
