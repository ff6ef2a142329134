from decimal import Decimal

import msgspec
import pytest

from bursar.capture import checks
from bursar.core.errors import InvalidInput


@pytest.mark.parametrize(
    "value", ["", "  ", "a\x00b", "a\nb", "\x85", "\ud800", "x" * 257, 5, None, ["a"], True]
)
def test_a_name_that_is_none_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        checks.name(value, "agent")
    assert caught.value.field == "agent"
    assert "agent" in caught.value.detail


@pytest.mark.parametrize("value", ["bot", "x" * 256, "Émile 🤖", "a b/c:d"])
def test_a_name_is_kept_as_it_was_sent(value: object) -> None:
    assert checks.name(value, "agent") == value


def test_nothing_and_empty_text_are_no_name() -> None:
    assert checks.optional_name(None, "user") == checks.optional_name("", "user") == ""


@pytest.mark.parametrize("value", [True, 1.0, Decimal(1), "1", -1, None, 10**12 + 1])
def test_a_count_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="input_tokens"):
        checks.count(value, "input_tokens")


@pytest.mark.parametrize("value", [0, 1, 10**12])
def test_a_count_is_a_whole_number_up_to_its_bound(value: object) -> None:
    assert checks.count(value, "input_tokens") == value


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [(12, 12), (Decimal("12.7"), 13), (Decimal("0.2"), 0), (12.2, 12), (Decimal(2**31 - 1), 2**31 - 1)],
)
def test_a_fractional_duration_is_rounded_where_it_is_allowed(value: object, milliseconds: int) -> None:
    assert checks.duration_ms(value, "latencyMs", fractional=True) == milliseconds


@pytest.mark.parametrize(
    "value",
    [Decimal("-0.2"), -1, Decimal("1e99"), Decimal("NaN"), float("inf"), 2**31, True, "5"],
)
def test_a_duration_beyond_reason_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="latencyMs"):
        checks.duration_ms(value, "latencyMs", fractional=True)


def test_a_fractional_duration_is_refused_where_it_is_not_allowed() -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        checks.duration_ms(Decimal("12.7"), "duration_ms")


@pytest.mark.parametrize(
    ("value", "nusd"),
    [
        (None, None),
        (0, 0),
        (Decimal("0.015500000000000001"), 15_500_000),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        (Decimal("1e-5"), 10_000),
        (3, 3_000_000_000),
    ],
)
def test_a_cost_is_read_from_its_digits(value: object, nusd: int | None) -> None:
    assert checks.cost_nusd(value, "cost_usd") == nusd


@pytest.mark.parametrize(
    "value",
    [-1, Decimal("-0.1"), "NaN", "Infinity", Decimal("1e99999"), "9300000000", "1,5", 0.5, True, [], 10**400],
)
def test_a_cost_that_is_none_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        checks.cost_nusd(value, "cost_usd")
    assert caught.value.field == "cost_usd"


@pytest.mark.parametrize("value", ["2025-06-01T12:00:00", "yesterday", 1748779200, None, ""])
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        checks.occurred_at(value, "timestamp")
    assert caught.value.field == "timestamp"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b'"\xff"',
        b"1" * 5000,
        b"1e99999999999999999999",
        b"{} x",
    ],
)
def test_what_is_no_json_is_refused_and_nothing_else_is_raised(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        checks.decode_json(raw)


def test_half_a_character_becomes_the_sign_for_what_cannot_be_shown() -> None:
    raw = b'["cut \\ud83d", "\\udE00!", "\\ud83d\\ude00", "not one: \\\\ud83d", "\\n\\u4e2d"]'
    assert checks.decode_json(raw) == ["cut \ufffd", "\ufffd!", "\U0001f600", "not one: \\ud83d", "\n\u4e2d"]


def test_integers_beyond_64_bits_stay_readable_as_text() -> None:
    kept = {"low": -(2**63), "high": 2**64 - 1}
    beyond = {"low": -(2**63) - 1, "high": 10**30}
    assert checks.attributes(kept, "attributes") == kept
    assert checks.attributes(beyond, "attributes") == {"low": "-9223372036854775809", "high": "1" + "0" * 30}


def test_fractions_are_decoded_with_all_their_digits() -> None:
    assert checks.decode_json(b"[0.1000000000000000055, 1e400, 7]") == [
        Decimal("0.1000000000000000055"),
        Decimal("1e400"),
        7,
    ]


def test_small_attributes_are_kept_as_they_are() -> None:
    said = {"tags": ["a", {"b": None}], "n": 1, "x": Decimal("0.5"), "ok": True}
    assert checks.attributes(said, "attributes") == {"tags": ["a", {"b": None}], "n": 1, "x": 0.5, "ok": True}


def test_the_biggest_attributes_are_dropped_and_it_is_said() -> None:
    said = {"first": 1, "big": "x" * 5000, "bigger": "y" * 6000, "last": "z"}
    assert checks.attributes(said, "attributes") == {"first": 1, "last": "z", "_truncated": True}


@pytest.mark.parametrize("count", [1, 150, 151, 200, 5000])
def test_attributes_never_pass_four_kibibytes(count: int) -> None:
    said = {f"key{n}\x00": "é" * 10 for n in range(count)}
    assert len(msgspec.json.encode(checks.attributes(said, "attributes"))) <= 4096


def test_attributes_nested_too_deeply_are_dropped() -> None:
    deep = checks.decode_json(b"[" * 500 + b"]" * 500)
    assert checks.attributes({"deep": deep, "flat": 1}, "attributes") == {"flat": 1, "_truncated": True}


@pytest.mark.parametrize("value", [[], "text", 5, {1: 2}])
def test_attributes_are_an_object(value: object) -> None:
    with pytest.raises(InvalidInput, match="attributes"):
        checks.attributes(value, "attributes")


def test_no_attributes_are_none() -> None:
    assert checks.attributes(None, "attributes") is checks.attributes({}, "attributes") is None


def test_a_lone_surrogate_can_be_stored_after_it_was_replaced() -> None:
    assert checks.attributes({"a\ud800": "b\udfff"}, "attributes") == {"a\ufffd": "b\ufffd"}


def test_a_prompt_is_cut_at_its_bound() -> None:
    assert checks.prompt("x" * 3000, "prompt") == "x" * 2048
    assert checks.prompt("", "prompt") is checks.prompt(None, "prompt") is None


def test_a_choice_lists_what_is_allowed() -> None:
    with pytest.raises(InvalidInput, match='status must be one of "ok", "error"'):
        checks.choice("fine", "status", {"ok": False, "error": True})
