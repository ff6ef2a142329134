"""Money: exact from text to text, half-even by the text's own digits, nothing that is no money."""

import ast
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.core import money
from bursar.core.errors import InvalidAmount
from bursar.core.money import (
    NUSD_MAX,
    decimal_from_nusd,
    nusd_from_decimal,
    nusd_from_exact,
    nusd_from_text,
    text_from_nusd,
)

amounts = st.integers(0, NUSD_MAX)
digits = st.text("0123456789", min_size=1, max_size=40)

READ = [
    ("0.0155", 15_500_000),
    ("0.015500000000000001", 15_500_000),
    ("0.30000000000000004", 300_000_000),
    ("1.5e-7", 150),
    (" 2 ", 2_000_000_000),
    (".5", 500_000_000),
    ("-0", 0),
    ("0.0000000005", 0),
    ("0.0000000015", 2),
    ("0.0000000025", 2),
    ("0.00000000050000000000000000000000000000000000000001", 1),
    ("0.00000000149999999999999999999999999999999999999999", 1),
    ("1234567890.1234567894999999999999999999999999999999", 1_234_567_890_123_456_789),
    ("1e-400", 0),
    ("9223372036.854775807", NUSD_MAX),
]

REFUSED = [
    *("NaN", "sNaN", "-NaN", "inf", "-Infinity", "-1", "-1e-30", "1e400", "1E99999999999999999999"),
    *("9223372036.854775808", "9.3e9", "", " ", "abc", "0x10", "1,5", "1 000", "1_000", "$5", "1e", "--1"),
    *("\uff11", "\u0661", "1" * 65, "0." + "0" * 100_000),
]


@pytest.mark.parametrize(("text", "nusd"), READ)
def test_text_is_rounded_half_even_by_its_own_digits(text: str, nusd: int) -> None:
    assert nusd_from_text(text) == nusd


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        nusd_from_text(text)


@given(amounts)
def test_text_and_amount_round_trip(nusd: int) -> None:
    assert nusd_from_text(text_from_nusd(nusd)) == nusd
    assert nusd_from_decimal(decimal_from_nusd(nusd)) == nusd


@given(st.integers(0, 9_000_000_000), digits)
def test_rounding_is_that_of_the_exact_fraction(whole: int, decimals: str) -> None:
    exact = Fraction(whole) + Fraction(int(decimals), 10 ** len(decimals))
    assert nusd_from_text(f"{whole}.{decimals}") == round(exact * 10**9)


@given(st.integers(0, 9_000_000_000), digits)
def test_a_computed_cost_is_the_exact_fraction_rounded_up(whole: int, decimals: str) -> None:
    exact = Fraction(whole) + Fraction(int(decimals), 10 ** len(decimals))
    assert nusd_from_exact(Decimal(f"{whole}.{decimals}")) == -((-exact * 10**9) // 1)


@given(st.decimals(min_value=0, max_value=9_000_000_000, allow_nan=False, allow_infinity=False))
def test_a_callers_decimal_context_changes_no_amount(amount: Decimal) -> None:
    plain = nusd_from_decimal(amount)
    with localcontext(prec=3):
        assert nusd_from_decimal(amount) == plain
        assert nusd_from_decimal(decimal_from_nusd(plain)) == plain


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.1", "1e30"])
def test_a_decimal_that_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        nusd_from_decimal(Decimal(text))


@given(st.integers(-NUSD_MAX, NUSD_MAX))
def test_printed_money_is_plain_exact_and_keeps_two_decimals(nusd: int) -> None:
    text = text_from_nusd(nusd)
    assert Decimal(text) * 10**9 == nusd
    whole, decimals = text.removeprefix("-").split(".")
    assert whole.isdigit()
    assert decimals.isdigit()
    assert 2 <= len(decimals) <= 9
    assert len(decimals) == 2 or not decimals.endswith("0")


def test_a_ledger_amount_prints_all_nine_decimals_as_decimal() -> None:
    assert str(decimal_from_nusd(2_500_000_000)) == "2.500000000"
    assert str(decimal_from_nusd(-NUSD_MAX)) == "-9223372036.854775807"


def test_the_module_knows_no_float() -> None:
    tree = ast.parse(Path(money.__file__).read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    floats = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    divisions = [n for n in ast.walk(tree) if isinstance(n, ast.Div)]
    assert "float" not in names
    assert not floats
    assert not divisions
