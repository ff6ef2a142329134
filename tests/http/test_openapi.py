"""The OpenAPI document: complete, and where it is kept by hand, true to the decoders."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bursar.http.v1.hot_schema import HOT_PATHS
from bursar.http.v1.ingest_item import IngestItem
from support.desk import Desk, event, open_desk

TRACK = {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 1}
NATIVE = {"agent": "a", "model": "gpt-4o"}
CAPTURE_PATHS = ["/v1/ingest", "/v1/track", "/v1/events"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("openapi") / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def document(desk: Desk) -> dict[str, Any]:
    answered: dict[str, Any] = desk.get("/openapi.json", key="").json()
    return answered


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def item_schema(path: str) -> dict[str, Any]:
    """Return the schema of one event of a hot route's body."""
    found: Any = HOT_PATHS[path]["post"]
    schema: dict[str, Any] = found["requestBody"]["content"]["application/json"]["schema"]
    while "properties" not in schema or set(schema["properties"]) == {"events"}:
        schema = schema["oneOf"][0] if "oneOf" in schema else schema.get("anyOf", [schema])[0]
        if set(schema.get("properties", ())) == {"events"}:
            schema = schema["properties"]["events"]["items"]
    return schema


def test_every_operation_has_an_id_of_its_own_a_tag_and_our_errors(document: dict[str, Any]) -> None:
    found = operations(document)
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(set(ids)) == len(ids) > 20
    for method, path, operation in found:
        assert len(operation["tags"]) == 1, (method, path)
        assert operation["summary"], (method, path)
        problem = operation["responses"]["4XX"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}


def test_every_hot_route_stands_in_the_document(document: dict[str, Any]) -> None:
    for path in HOT_PATHS:
        assert "post" in document["paths"][path]


def test_the_problem_schema_says_what_is_answered(desk: Desk, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["Problem"]
    for answer in (desk.get("/v1/events", key=""), desk.get("/nowhere"), desk.post("/v1/ingest", {})):
        body = answer.json()
        assert set(schema["required"]) <= set(body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert body["status"] == answer.status_code


def test_the_ingest_schema_names_the_fields_of_its_decoder() -> None:
    schema = item_schema("/v1/ingest")
    assert set(schema["properties"]) == set(IngestItem.__struct_fields__)
    defaults = len(IngestItem.__struct_defaults__)
    assert set(schema["required"]) == set(IngestItem.__struct_fields__[:-defaults])


@pytest.mark.parametrize("field", item_schema("/v1/ingest")["required"])
def test_ingest_refuses_an_event_without_a_required_field(desk: Desk, field: str) -> None:
    answer = desk.ingest({name: value for name, value in event().items() if name != field})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "events", 0, field]


@pytest.mark.parametrize("field", item_schema("/v1/track")["required"])
def test_track_refuses_a_call_without_a_required_field(desk: Desk, field: str) -> None:
    answer = desk.post("/v1/track", {name: value for name, value in TRACK.items() if name != field})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize("field", item_schema("/v1/events")["required"])
def test_events_refuse_one_without_a_required_field(desk: Desk, field: str) -> None:
    body = {name: value for name, value in NATIVE.items() if name != field}
    assert [fault["field"] for fault in desk.post("/v1/events", body).json()["rejected"]] == [field]


def filled(schema: dict[str, Any]) -> object:
    """Return a harmless value of a field's schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if schema.get("format") == "date-time":
        return "2026-03-01T00:00:00Z"
    text = "0" * int(schema.get("minLength", 1))
    values: dict[str, object] = {
        "string": text,
        "integer": 1,
        "number": 1,
        "boolean": True,
        "object": {"k": 1},
    }
    return values[kind]


@pytest.mark.parametrize("path", CAPTURE_PATHS)
def test_a_body_of_all_documented_fields_is_taken_and_none_is_unknown(desk: Desk, path: str) -> None:
    schema = item_schema(path)
    body: dict[str, object] = {name: filled(value) for name, value in schema["properties"].items()}
    for name in ("idempotency_key", "idempotencyKey"):
        body |= {name: path} if name in body else {}
    if path == "/v1/events":
        body.pop("key_hex", None)  # another spelling of idempotency_key
        body |= {"cost_usd": "1", "error": "an error", "status": "error"}
    sent: object = {"events": [body]} if path == "/v1/ingest" else body
    before = desk.recorded()
    assert desk.post(path, sent).status_code in {201, 202}
    assert desk.recorded() == before + 1
    (text,) = desk.rows("SELECT attributes FROM event ORDER BY batch DESC LIMIT 1")[0]
    kept = json.loads(str(text or "{}"))
    assert set(kept) <= {"k", "partial", "errorMessage", "promptName", "error"}
