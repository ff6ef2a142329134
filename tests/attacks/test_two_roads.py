"""Both roads of POST /v1/ingest say the same of every value, or refuse it both."""

import json
import random

import msgspec
import pytest

from bursar.core.errors import InvalidInput
from bursar.http.v1.ingest_body import IngestDecoder
from bursar.http.v1.ingest_item import IngestItem
from bursar.identity.keys import Scope
from bursar.web.principal import Principal
from support.desk import NOW, event
from support.hostile import VALUES

ANYBODY = Principal(1, "key:1", frozenset(Scope), api_key=1)
DECODER = IngestDecoder(events_max=1000)
TIMES = [
    "2026-03-01 00:00:00Z", "2026-03-01T00:00:00+0000", "2026-03-01T00:00:00", "2026-02-28T23:59:60Z",
    "2026-03-01T00:00:60Z", "2026-03-01T00:00:00.1234567Z", "2026-03-01t00:00:00z", "2026-03-01T24:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-03-01T00:00Z",
    "2026-03-01T00:00:00-00:00",
    "2026-03-01T00:00:00+24:00", "2026-03-01T00:00:00.Z", "20260301T000000Z", "1772409600",
    "2026-02-29T00:00:00Z",
    "2026-03-01T00:00:00+05", "2026-03-01T00:00:00.12345678901234567890123456789012345Z",
]  # fmt: skip
MONEY = ["1_000", " 1 ", "NaN", "0.5", "٣", "1e5", "Infinity", "-0", "0x10", ""]
FIELDS = IngestItem.__struct_fields__


def verdict(raw: bytes) -> object:
    """Return what a body means: the event's values, or that it is refused."""
    try:
        decoded = DECODER.decode(raw, ANYBODY, NOW)
    except InvalidInput:
        return "refused"
    if decoded.errors:
        return "refused"
    found = decoded.events[0]
    attributes = {**(found.attributes or {})}
    for name in ("zz", "_truncated"):  # what put it on the careful road
        attributes.pop(name, None)
    has_key = b'"idempotency_key": ' in raw and b'key": null' not in raw and b'key": ""' not in raw
    keyed = found.key if has_key else b""
    return (keyed, found.subject, *(getattr(found, name) for name in _COMPARED), attributes)


_COMPARED = (
    "occurred_at", "input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "duration_ms",
    "reported_nusd", "is_error", "run", "parent_run", "session", "clock_suspect", "prompt",
)  # fmt: skip


def body(field: str, value: str, *, is_careful: bool) -> bytes:
    """Return a body with `value` as the text of a field; an unknown field makes it take the careful road."""
    item = {**event(), field: "\x01here"} | ({"zz": 1} if is_careful else {})
    text = json.dumps({"events": [item]}).replace('"\\u0001here"', value)
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("field", FIELDS)
def test_each_value_means_the_same_on_either_road(field: str) -> None:
    values = VALUES + [json.dumps(text) for text in TIMES + MONEY]
    differing = [
        (value[:60], fast, careful)
        for value in values
        if (fast := verdict(body(field, value, is_careful=False)))
        != (careful := verdict(body(field, value, is_careful=True)))
    ]
    assert differing == []


def test_some_values_are_taken_and_some_are_not() -> None:
    taken = [value for value in VALUES if verdict(body("cost", value, is_careful=True)) != "refused"]
    assert {"-0.0", "1e-7", "0e0"} <= set(taken)
    assert not {"-1", "1e400", "NaN", "9.3e9"} & set(taken)


def test_an_item_means_the_same_alone_and_among_others() -> None:
    """Neighbours share work in the decoder; they must not share values."""
    chance = random.Random(17)  # noqa: S311 - repeatable
    names: dict[str, list[object]] = {
        "agent_name": ["a", "b"], "provider": ["p", "q"], "model": ["m", "n"], "project": ["x", None, ""],
        "feature": ["f", None], "user": ["u", None, "v"], "run_id": ["r", None, "s", ""],
        "status": ["error", None], "parent_run_id": ["r", None], "prompt": ["hi", None],
        "cache_read_tokens": [0, 5], "cost": [0, 1.5],
    }  # fmt: skip
    items = [
        event(idempotency_key=f"k{number}", **{name: chance.choice(values) for name, values in names.items()})
        for number in range(400)
    ]
    together = DECODER.decode(json.dumps({"events": items}).encode(), ANYBODY, NOW).events
    for item, found in zip(items, together, strict=True):
        for extra in ({}, {"zz": 1}):
            (alone,) = DECODER.decode(json.dumps({"events": [item | extra]}).encode(), ANYBODY, NOW).events
            assert found == msgspec.structs.replace(alone, attributes=found.attributes)
