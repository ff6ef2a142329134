"""POST /v1/events over a socket: per-item errors, bindings, dry run."""

from collections.abc import Iterator

import pytest

from support.engines import Database
from support.server import Server, running_server

EVENT = {
    "agent": "coder",
    "provider": "openai",
    "model": "gpt-4o",
    "occurred_at": "2026-01-05T10:00:00Z",
    "input_tokens": 1000,
    "output_tokens": 100,
}


@pytest.fixture(scope="module")
def server(module_database: Database) -> Iterator[Server]:
    with running_server(module_database) as running:
        yield running


def test_good_events_are_recorded_and_bad_ones_named(server: Server) -> None:
    bad = {**EVENT, "input_tokens": -1}
    sent = {"events": [{**EVENT, "idempotency_key": "good-1"}, bad, {"agent": "coder"}]}
    answer = server.post("/v1/events", sent, key=server.ingest_key)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["recorded"], body["tokens"], body["cost_usd"], body["unpriced"]) == (1, 1100, "0.0035", 0)
    assert [(fault["index"], fault["field"]) for fault in body["rejected"]] == [
        (1, "input_tokens"),
        (2, "model"),
    ]
    again = server.post("/v1/events", sent, key=server.ingest_key)
    assert again.status_code == 200
    assert (again.json()["recorded"], again.json()["duplicates"], again.json()["cost_usd"]) == (0, 1, "0.00")


def test_a_known_key_with_other_figures_is_a_conflict_at_its_index(server: Server) -> None:
    server.post("/v1/events", {**EVENT, "idempotency_key": "k"}, key=server.ingest_key)
    body = server.post("/v1/events", [EVENT, {**EVENT, "idempotency_key": "k", "input_tokens": 7}]).json()
    assert (body["recorded"], body["conflicts"]) == (1, [1])


def test_a_dry_run_prices_and_records_nothing(server: Server) -> None:
    one = {**EVENT, "idempotency_key": "never sent"}
    dry = server.request("POST", "/v1/events", params={"dry_run": "true"}, json=one)
    assert dry.status_code == 200
    assert (dry.json()["recorded"], dry.json()["cost_usd"], dry.json()["dry_run"]) == (1, "0.0035", True)
    assert server.post("/v1/events", one).json()["duplicates"] == 0


def test_a_bound_key_writes_for_its_agent_only_and_names_no_source(server: Server) -> None:
    key = server.post("/v1/keys", {"name": "bound", "agent": "coder", "project": "p"}).json()["raw_key"]
    other = {**EVENT, "agent": "other", "source": "claude_code"}
    body = server.post("/v1/events", [{**EVENT, "source": "claude_code"}, other], key=key).json()
    assert body["recorded"] == 1
    assert body["rejected"] == [
        {"index": 1, "field": "agent", "message": "agent must be 'coder': this key is bound to it"}
    ]


@pytest.mark.parametrize("body", [b"", b"[", b"7", b'{"events": 3}', b"[" * 100_000])
def test_a_body_that_holds_no_events_is_refused_whole(body: bytes, server: Server) -> None:
    answer = server.request("POST", "/v1/events", content=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_the_document_describes_both_reading_and_writing(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert paths["/v1/events"]["post"]["operationId"] == "events_create"


def test_an_importer_finds_its_cursor_again(server: Server) -> None:
    path = "/v1/imports/cursors/claude_code"
    assert server.get(path).json() == {"source": "claude_code", "cursor": None}
    assert server.request("PUT", path, json={"marks": {"a": 1}}).status_code == 204
    assert server.request("PUT", path, json={"marks": {"b": 2}}).status_code == 204
    assert server.get(path).json()["cursor"] == {"marks": {"b": 2}}
    assert server.get(path, key=server.ingest_key).status_code == 403
    assert server.request("PUT", path, json=[1]).status_code == 422
    assert server.request("PUT", path.replace("claude", "CLAUDE"), json={}).status_code == 422
