import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.capture import native
from bursar.capture.checks import COUNT_FIELDS
from bursar.capture.native import Decoded, Fault, decode_events, encode_event
from bursar.core.errors import InvalidInput, TooLarge
from bursar.core.ids import key_from_text
from bursar.core.time import micros_from_text
from bursar.core.usage import TOKENS_MAX, Billing, ServiceTier, Source, Subject, UsageEvent

NOW = micros_from_text("2025-06-01T12:00:00Z")
LEAST = {"agent": "bot", "model": "gpt-4o"}

FULL = UsageEvent(
    key=bytes(range(16)),
    occurred_at=NOW,
    subject=Subject("bot", "openai", "gpt-4o", "p", "f", "u"),
    source=Source.NATIVE,
    reported_nusd=5,
    duration_ms=7,
    revision=2,
    run="r",
    parent_run="q",
    session="s",
    attributes={"team": "x"},
    prompt="Why?",
    **dict.fromkeys(COUNT_FIELDS, 9),
)

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(
    lambda text: not text.isspace()
)
counts = st.integers(0, TOKENS_MAX)
optional_names = st.just("") | names


def decode(*items: object) -> Decoded:
    return decode_events(msgspec.json.encode({"events": items}), now=NOW)


def one(**fields: object) -> UsageEvent:
    decoded = decode(LEAST | fields)
    assert not decoded.faults, decoded.faults
    return decoded.events[0]


def fault(**fields: object) -> Fault:
    decoded = decode(LEAST | fields)
    assert not decoded.events
    return decoded.faults[0]


@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: [item], lambda item: {"events": [item]}])
def test_one_event_a_list_and_an_object_are_bodies(wrap: object) -> None:
    assert callable(wrap)
    decoded = decode_events(msgspec.json.encode(wrap(LEAST)), now=NOW)
    assert [event.subject.agent for event in decoded.events] == ["bot"]


def test_every_field_reaches_the_event() -> None:
    event = one(
        idempotency_key="k1",
        revision=3,
        occurred_at="2025-06-01T10:00:00+02:00",
        provider="openai",
        project="p",
        feature="f",
        user="u",
        run_id="r",
        parent_run_id="pr",
        session_id="s",
        duration_ms=12,
        cost_usd="0.0123",
        status="error",
        error="it broke",
        billing="subscription",
        service_tier="flex",
        source="codex",
        attributes={"team": "x"},
        prompt="Why?",
        colour="red",
        **{name: number for number, name in enumerate(COUNT_FIELDS, 1)},
    )
    assert event == UsageEvent(
        key=key_from_text("k1"),
        revision=3,
        occurred_at=micros_from_text("2025-06-01T08:00:00Z"),
        subject=Subject("bot", "openai", "gpt-4o", "p", "f", "u"),
        source=Source.CODEX,
        run="r",
        parent_run="pr",
        session="s",
        duration_ms=12,
        reported_nusd=12_300_000,
        is_error=True,
        billing=Billing.SUBSCRIPTION,
        service_tier=ServiceTier.FLEX,
        attributes={"colour": "red", "error": "it broke", "team": "x"},
        prompt="Why?",
        **{name: number for number, name in enumerate(COUNT_FIELDS, 1)},
    )


@settings(deadline=None)
@given(
    key=st.binary(min_size=16, max_size=16),
    revision=st.integers(0, 2**53 - 1),
    occurred_at=st.integers(0, 253_402_300_799_999_999),
    subject=st.tuples(names, optional_names, names, optional_names, optional_names, optional_names),
    numbers=st.dictionaries(st.sampled_from(COUNT_FIELDS), counts),
    reported_nusd=st.none() | st.integers(0, 2**63 - 1),
    runs=st.tuples(optional_names, optional_names, optional_names),
    is_error=st.booleans(),
    source=st.sampled_from(list(native.SOURCES.values())),
    billing=st.sampled_from(Billing),
    tier=st.sampled_from(ServiceTier),
    attributes=st.none()
    | st.dictionaries(names, st.integers() | names | st.floats(allow_nan=False), min_size=1),
)
def test_what_is_encoded_is_decoded_as_the_same_event(
    *,
    key: bytes,
    revision: int,
    occurred_at: int,
    subject: tuple[str, ...],
    numbers: dict[str, int],
    reported_nusd: int | None,
    runs: tuple[str, str, str],
    is_error: bool,
    source: Source,
    billing: Billing,
    tier: ServiceTier,
    attributes: dict[str, object] | None,
) -> None:
    event = UsageEvent(
        key=key,
        revision=revision,
        occurred_at=occurred_at,
        subject=Subject(*subject),  # type: ignore[arg-type]
        source=source,
        reported_nusd=reported_nusd,
        run=runs[0],
        parent_run=runs[1],
        session=runs[2],
        is_error=is_error,
        billing=billing,
        service_tier=tier,
        clock_suspect=not native.EARLIEST_US <= occurred_at <= NOW + native.AHEAD_US_MAX,
        attributes=None,
        **numbers,
    )
    sent = encode_event(msgspec.structs.replace(event, attributes=attributes))
    (back,) = decode_events(msgspec.json.encode([sent]), now=NOW).events
    assert msgspec.structs.replace(back, attributes=None) == event
    once_more = decode_events(msgspec.json.encode(encode_event(back)), now=NOW).events
    assert once_more == [back]


def test_a_key_may_be_text_hex_or_missing() -> None:
    assert one(idempotency_key="a").key == key_from_text("a")
    assert one(key_hex="00" * 15 + "fF").key == bytes(15) + b"\xff"
    assert one().key != one().key
    assert one(idempotency_key="0192f0c4-5b1e-7abc-8def-0123456789ab").key.hex().startswith("0192f0c4")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 513}, "idempotency_key"),
        ({"idempotency_key": 5}, "idempotency_key"),
        ({"key_hex": "00"}, "key_hex"),
        ({"key_hex": "zz" * 16}, "key_hex"),
        ({"key_hex": " 0" * 16}, "key_hex"),
        ({"key_hex": "00" * 16, "idempotency_key": "a"}, "key_hex"),
        ({"agent": None}, "agent"),
        ({"model": ""}, "model"),
        ({"project": 5}, "project"),
        ({"run_id": "a\u0000"}, "run_id"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": 1.5}, "input_tokens"),
        ({"output_tokens": "5"}, "output_tokens"),
        ({"web_searches": True}, "web_searches"),
        ({"cache_read_tokens": 10**13}, "cache_read_tokens"),
        ({"duration_ms": 12.5}, "duration_ms"),
        ({"duration_ms": 2**31}, "duration_ms"),
        ({"revision": -1}, "revision"),
        ({"revision": 2**53}, "revision"),
        ({"cost_usd": "much"}, "cost_usd"),
        ({"cost_usd": -0.5}, "cost_usd"),
        ({"cost_usd": 1e10}, "cost_usd"),
        ({"occurred_at": "2025-06-01T12:00:00"}, "occurred_at"),
        ({"occurred_at": 5}, "occurred_at"),
        ({"status": "fine"}, "status"),
        ({"billing": 1}, "billing"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"source": "gateway"}, "source"),
        ({"attributes": []}, "attributes"),
        ({"prompt": 5}, "prompt"),
        ({"error": {}}, "error"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], named: str) -> None:
    found = fault(**fields)
    assert found.field == named
    assert named in found.message


def test_good_events_are_kept_and_bad_ones_named_by_their_place() -> None:
    decoded = decode(LEAST, 5, {"agent": "bot"}, LEAST, None)
    assert decoded.indexes == [0, 3]
    assert len(decoded.events) == 2
    assert [(found.index, found.field) for found in decoded.faults] == [(1, ""), (2, "model"), (4, "")]


def test_an_event_without_a_time_is_stamped_once() -> None:
    assert (one().occurred_at, one().time_stamped) == (NOW, True)
    assert not one(occurred_at="2025-06-01T12:00:00Z").time_stamped


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        ("2025-06-02T12:00:00Z", False),
        ("2025-06-02T12:00:00.000001Z", True),
        ("2015-01-01T00:00:00Z", False),
        ("2014-12-31T23:59:59Z", True),
    ],
)
def test_a_time_beyond_reason_is_kept_and_flagged(text: str, suspect: bool) -> None:
    event = one(occurred_at=text)
    assert (event.occurred_at, event.clock_suspect) == (micros_from_text(text), suspect)


def test_a_cost_is_read_from_its_digits() -> None:
    raw = b'{"agent":"bot","model":"m","cost_usd":0.0155000000000000000001}'
    assert decode_events(raw, now=NOW).events[0].reported_nusd == 15_500_000
    assert one(cost_usd=0).reported_nusd == 0
    assert one().reported_nusd is None


def test_an_attribute_sent_as_one_wins_over_an_unknown_field() -> None:
    assert one(team="field", attributes={"team": "attribute"}).attributes == {"team": "attribute"}


def test_an_error_text_makes_an_error_unless_the_status_says_otherwise() -> None:
    assert one(error="x").is_error
    assert not one(error="x", status="ok").is_error
    assert one(error="x" * 5000).attributes == {"error": "x" * 1024}


@pytest.mark.parametrize(
    "raw", [b"", b"5", b'"x"', b"null", b'{"events": 5}', b"[" * 100_000, b'[{"agent":' * 50_000, b"\xff"]
)
def test_a_body_that_is_none_is_refused_as_a_whole(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_events(raw, now=NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(encode_event(FULL))) | st.text(), json_values, max_size=8))
def test_no_value_in_any_field_does_more_than_a_fault(fields: dict[str, object]) -> None:
    raw = json.dumps([encode_event(FULL) | fields]).encode()
    decoded = decode_events(raw, now=NOW)
    assert len(decoded.events) + len(decoded.faults) == 1


@settings(deadline=None)
@given(st.data())
def test_a_damaged_body_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(msgspec.json.encode([encode_event(FULL)] * 2))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_events(bytes(raw), now=NOW)
    except InvalidInput as error:
        assert error.detail  # noqa: PT017 - refusing is one of two right answers
    else:
        assert len(decoded.events) + len(decoded.faults) <= 3


def test_a_body_has_a_bound() -> None:
    with pytest.raises(TooLarge, match="at most 2 events"):
        decode_events(msgspec.json.encode([LEAST] * 3), now=NOW, events_max=2)


def test_an_empty_list_holds_nothing() -> None:
    assert decode_events(b"[]", now=NOW) == Decoded([], [], [])
