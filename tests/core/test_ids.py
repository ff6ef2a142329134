"""Ids in every spelling, and event keys that never change their meaning."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.core.errors import InvalidInput
from bursar.core.ids import id_from_text, key_from_text, new_id, text_from_id, uuid_text_from_id

ids = st.binary(min_size=16, max_size=16)
prefixes = st.sampled_from(["agt", "key", "org", "hold", "evt", "wh"])


def test_new_ids_are_version_7_distinct_and_in_time_order() -> None:
    made = [new_id() for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert {UUID(bytes=value).version for value in made} == {7}
    times = [value[:6] for value in made]
    assert times == sorted(times)


@given(prefixes, ids)
def test_prefixed_ids_round_trip(prefix: str, value: bytes) -> None:
    text = text_from_id(prefix, value)
    assert text == f"{prefix}_{value.hex()}"
    assert id_from_text(text) == value


@given(ids)
def test_a_uuid_in_any_case_and_bare_digits_name_the_same_id(value: bytes) -> None:
    canonical = uuid_text_from_id(value)
    for text in (canonical, canonical.upper(), value.hex(), f" {canonical} ", f"agt_{canonical}"):
        assert id_from_text(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "agt_", "agt", "0" * 31, "0" * 33, "g" * 32, "_" + "0" * 32, "x_" + "0" * 32),
        *("a_b_" + "0" * 32, "-" * 9 + "0" * 32, "0-1-9-2" + "0" * 28, "{" + "0" * 32 + "}"),
        *("\u0660" * 32, "agt_" * 100_000, "urn:uuid:" + "0" * 32),
    ],
)
def test_what_is_no_id_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        id_from_text(text, field="agent_id")
    assert refused.value.field == "agent_id"


@given(st.uuids())
def test_a_canonical_uuid_key_is_stored_as_itself(value: UUID) -> None:
    assert key_from_text(str(value)) == value.bytes


@given(st.uuids().filter(lambda value: str(value) != str(value).upper()))
def test_other_spellings_of_a_uuid_are_other_keys(value: UUID) -> None:
    spellings = (str(value).upper(), value.hex, f"{{{value}}}", value.urn, f" {value}")
    assert len({key_from_text(text) for text in (str(value), *spellings)}) == 6


@given(st.text(st.characters()), st.text(st.characters()))
def test_keys_have_16_bytes_and_are_equal_only_for_equal_texts(one: str, other: str) -> None:
    assert len(key_from_text(one)) == 16
    assert (key_from_text(one) == key_from_text(other)) == (one == other)


def test_keys_of_texts_are_the_same_for_ever() -> None:
    """Recorded once: a change would count every replayed event a second time."""
    assert key_from_text("").hex() == "cae66941d9efbd404e4d88758ea67670"
    assert key_from_text("req_123").hex() == "028a954a4b15bc5f551141c4fc8004a9"
    assert key_from_text("\ud800" * 36).hex() == "7d4644629f2f3c5e2841240724fa9131"
