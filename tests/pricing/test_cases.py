"""The hand-worked prices of cases.toml."""

import tomllib
from collections.abc import Callable
from fractions import Fraction
from math import ceil, prod
from pathlib import Path
from typing import Any

import pytest

from bursar.core.usage import Billing, ServiceTier, UsageEvent
from bursar.pricing.engine import PriceBook

MakeEvent = Callable[..., UsageEvent]

CASES = tomllib.loads(Path(__file__).with_name("cases.toml").read_text("utf-8"))["case"]
BOOK = PriceBook()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_call_costs_what_was_worked_out_by_hand(case: dict[str, Any], event: MakeEvent) -> None:
    used = event(
        case["model"],
        case.get("provider", ""),
        case["at"],
        service_tier=ServiceTier[case.get("tier", "STANDARD")],
        reported_nusd=case.get("reported"),
        is_error=case.get("is_error", False),
        billing=Billing(case.get("subscription", False)),
        **case["usage"],
    )

    price = BOOK.price(used)

    assert price.computed_nusd == case.get("nusd")
    assert price.cost_nusd == case.get("counts", case.get("nusd"))
    assert BOOK.explain(used).price == price


@pytest.mark.parametrize(
    "case", [case for case in CASES if "work" in case], ids=lambda case: str(case["name"])
)
def test_the_written_sum_gives_the_written_result(case: dict[str, Any]) -> None:
    terms = [prod(Fraction(factor) for factor in term.split("*")) for term in case["work"].split("+")]

    assert ceil(sum(terms)) == case["nusd"]


def test_every_case_has_its_own_name_and_a_source() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["source"] for case in CASES)
