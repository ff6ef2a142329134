"""What no hold is made of: each fault is named by its field, and nothing has happened."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from holding import budget, figures, held

from bursar.http.v1.hold_form import HoldBody, UsageBody
from bursar.http.v1.hot_schema import HOT_PATHS
from support.desk import Desk, open_desk

AMOUNT: dict[str, object] = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}
USAGE: dict[str, object] = {"agent": "bot", "model": "gpt-4o", "usage": {"input_tokens": 5}}
LONG = "x" * 257


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("bad") / "data") as opened:
        opened.made = budget(opened)  # type: ignore[attr-defined]
        yield opened
        assert opened.violations() == ()


@pytest.fixture(autouse=True)
def _nothing_happens(desk: Desk) -> Iterator[None]:
    before = desk.rows("SELECT * FROM hold"), desk.recorded()
    yield
    assert (desk.rows("SELECT * FROM hold"), desk.recorded()) == before


def refused(desk: Desk, path: str, body: object) -> dict[str, Any]:
    """Send what has to be refused, and return the problem document."""
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    answer = desk.send("POST", path, content=content)
    assert answer.status_code == 422, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["detail"]
    return problem


AMOUNTS = [
    0, -1, "0", "-0.01", "0.0000000001", "NaN", "Infinity", "1e30", "", " ", "abc", "1_0", True, [], {},
    10**10, "1,00", "$1",
]  # fmt: skip


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_that_is_no_amount(desk: Desk, amount: object) -> None:
    assert refused(desk, "/v1/holds", AMOUNT | {"amount_usd": amount})["field"] == "amount_usd"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-1e-400", "1e999999999", "0.1e", "01"])
def test_a_number_that_json_or_money_does_not_know(desk: Desk, text: str) -> None:
    refused(desk, "/v1/holds", '{"agent": "bot", "model": "m", "amount_usd": ' + text + "}")


FAULTS: list[tuple[dict[str, object], str]] = [
    *(({field: value}, field) for field in ("agent", "model") for value in (7, [], LONG, "a\nb", {"a": 1})),
    ({"agent": None}, "agent"),
    ({"agent": ""}, "agent"),
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    *(
        ({field: value}, field)
        for field in ("provider", "project", "user", "run", "parent_run", "session")
        for value in (7, LONG, True)
    ),
    *(({field: "a\x00b"}, field) for field in ("provider", "project", "user", "run")),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": "x" * 513}, "idempotency_key"),
    ({"idempotency_key": 5}, "idempotency_key"),
    ({"fingerprint": 5}, "fingerprint"),
    ({"tags": []}, "tags"),
    ({"tags": {"team": 5}}, "tags.team"),
    ({"tags": {"team": ""}}, "tags.team"),
    ({"tags": {"team": "a\nb"}}, "tags.team"),
    ({"tags": {"": "x"}}, "tags"),
    ({"tags": {f"t{n}": "x" for n in range(17)}}, "tags"),
    *(({"deadline_s": value}, "deadline_s") for value in (0, -1, 86_401, "60", True, [])),
    *(({"grace_s": value}, "grace_s") for value in (-1, 86_401, "60", False)),
    ({"depth": -1}, "depth"),
    ({"depth": 10**7}, "depth"),
    ({"depth": "1"}, "depth"),
    ({"allow_smaller": "yes"}, "allow_smaller"),
    ({"max_output_tokens": 5}, "max_output_tokens"),
    ({"amount": "1"}, "amount"),
    ({"min_output_tokens": 0}, "min_output_tokens"),
    ({"service_tier": 5}, "service_tier"),
]


@pytest.mark.parametrize(("fields", "field"), FAULTS)
def test_a_field_that_is_wrong(desk: Desk, fields: dict[str, object], field: str) -> None:
    problem = refused(desk, "/v1/holds", AMOUNT | fields)
    assert problem["field"] == field
    assert field.split(".", maxsplit=1)[0] in problem["detail"]


USAGE_FAULTS: list[tuple[object, str]] = [
    ([], "usage"),
    ("many", "usage"),
    *(({"input_tokens": value}, "usage.input_tokens") for value in (-1, 1.5, "5", True, 10**13)),
    *(({"max_output_tokens": value}, "usage.max_output_tokens") for value in (0, -1, 10**13, "5")),
    ({"cache_write_5m_tokens": -1}, "usage.cache_write_5m_tokens"),
    ({"output_tokens": 5}, "usage.output_tokens"),
]


@pytest.mark.parametrize(("usage", "field"), USAGE_FAULTS)
def test_usage_that_is_wrong(desk: Desk, usage: object, field: str) -> None:
    assert refused(desk, "/v1/holds", USAGE | {"usage": usage})["field"] == field


@pytest.mark.parametrize("ceiling", [-1, "NaN", "1e30", "abc", True])
def test_a_ceiling_that_is_no_amount(desk: Desk, ceiling: object) -> None:
    assert refused(desk, "/v1/holds", USAGE | {"ceiling_usd": ceiling})["field"] == "ceiling_usd"


def test_an_amount_or_usage_and_not_both(desk: Desk) -> None:
    for body in (AMOUNT | {"usage": {}}, {"agent": "bot", "model": "m"}, USAGE | {"amount_usd": 1}):
        problem = refused(desk, "/v1/holds", body)
        assert (problem["field"], "usage" in problem["detail"]) == ("amount_usd", True)


@pytest.mark.parametrize(
    "fields",
    [{"allow_smaller": True}, {"min_output_tokens": 5}, {"ceiling_usd": 1}, {"service_tier": "batch"}],
)
def test_what_belongs_to_usage_has_no_place_beside_an_amount(desk: Desk, fields: dict[str, object]) -> None:
    assert refused(desk, "/v1/holds", AMOUNT | fields)["field"] == next(iter(fields))


def test_a_service_tier_that_nobody_sells(desk: Desk) -> None:
    assert refused(desk, "/v1/holds", USAGE | {"service_tier": "royal"})["field"] == "service_tier"


BODIES = [b"", b"[", b"7", b"null", b"[]", b"\xff", b'{"agent": "\xff"}', b"[" * 100_000, b'"text"']


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["", "/settle", "/extend"])
def test_a_body_that_is_no_object(desk: Desk, path: str, body: bytes) -> None:
    if path:
        path = f"/hold_{'0' * 32}{path}"
    if len(body) > 65_536:
        assert desk.send("POST", f"/v1/holds{path}", content=body).status_code == 413
    else:
        refused(desk, f"/v1/holds{path}", body)


def test_deep_nesting_within_the_bound_is_refused(desk: Desk) -> None:
    refused(desk, "/v1/holds", b"[" * 50_000)
    refused(desk, "/v1/holds", b'{"agent": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")


def test_a_key_in_the_header_has_bounds(desk: Desk) -> None:
    for key in ("", "x" * 513):
        answer = desk.post("/v1/holds", AMOUNT, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


@pytest.fixture(scope="module")
def hold(desk: Desk) -> dict[str, Any]:
    return held(desk, "0.10")


SETTLEMENTS: list[tuple[dict[str, object], str]] = [
    *(({"cost_usd": value}, "cost_usd") for value in (-1, "NaN", "abc", "1e30", True, [], "")),
    ({"input_tokens": -1}, "input_tokens"),
    ({"output_tokens": 1.5}, "output_tokens"),
    ({"usage": []}, "usage"),
    ({"usage": {"output_tokens": -1}}, "usage.output_tokens"),
    ({"usage": {"max_output_tokens": 1}}, "usage.max_output_tokens"),
    ({"usage": {"input_tokens": 1}, "input_tokens": 1}, "usage"),
    ({"usage": {"input_tokens": 1}, "output_tokens": 1}, "usage"),
    ({"duration_ms": -1}, "duration_ms"),
    ({"duration_ms": "5"}, "duration_ms"),
    ({"status": "fine"}, "status"),
    ({"status": 5}, "status"),
    ({"occurred_at": "yesterday"}, "occurred_at"),
    ({"occurred_at": "2026-03-01T00:00:00"}, "occurred_at"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": 5}, "idempotency_key"),
    ({"model": "a\nb"}, "model"),
    ({"model": 5}, "model"),
    ({"provider": LONG}, "provider"),
    ({"billing": "free"}, "billing"),
    ({"attributes": []}, "attributes"),
]


@pytest.mark.parametrize(("fields", "field"), SETTLEMENTS)
def test_a_settlement_that_is_wrong(
    desk: Desk, hold: dict[str, Any], fields: dict[str, object], field: str
) -> None:
    assert refused(desk, f"/v1/holds/{hold['id']}/settle", fields)["field"] == field
    assert figures(desk, desk.made) == ("0.00", "0.10")  # type: ignore[attr-defined]


@pytest.mark.parametrize("deadline", [None, 0, -1, 86_401, "60", True, []])
def test_an_extension_that_is_wrong(desk: Desk, hold: dict[str, Any], deadline: object) -> None:
    problem = refused(desk, f"/v1/holds/{hold['id']}/extend", {"deadline_s": deadline})
    assert problem["field"] == "deadline_s"


@pytest.mark.parametrize(
    ("body", "field"), [({"reason": 5}, "reason"), ({"reason": "x" * 1025}, "reason"), ({"why": "x"}, "why")]
)
def test_a_void_that_is_wrong(desk: Desk, hold: dict[str, Any], body: dict[str, object], field: str) -> None:
    assert refused(desk, f"/v1/holds/{hold['id']}/void", body)["field"] == field


def test_the_document_names_the_fields_of_the_decoders() -> None:
    documented: Any = HOT_PATHS["/v1/holds"]["post"]
    schema = documented["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(HoldBody.__struct_fields__)
    assert set(schema["properties"]["usage"]["properties"]) == set(UsageBody.__struct_fields__)
