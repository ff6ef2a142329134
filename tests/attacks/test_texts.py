"""Hostile texts in every text field, path and filter: kept as they are or refused, and run by nothing."""

import copy
import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from matrix_rows import ROWS, path_of
from matrix_sides import Actor, actors, filled, furnish, sender_of

from support.desk import Desk, event, open_desk
from support.engines import Database, temporary_database

FORMULAS = ["=1+1|' /C calc'!A0", "+SUM(A1:A9)", "-2+3", "@SUM(1)"]
WILDCARDS = ["%", "_", "*", "%.*", "r%", "?", "[a-z]*", "research-bo_"]
TEXTS = [
    *FORMULAS, *WILDCARDS, "'; DROP TABLE event; --", '" OR 1=1 --', "../../etc/passwd", "%2e%2e%2f",
    "a\x00b", "a\r\nX-Injected: 1", "<script>alert(1)</script>", "{{7*7}}${7*7}", "%s%n{0}", "\u202egnp.exe",
    "\U0001f600", "\x1b[31mred", "x" * 10_000, "\ufeff", "é" * 256,
]  # fmt: skip
SLOW_TEXTS = ["'; DROP TABLE event; --", "a\x00b", "a\r\nX-Injected: 1", "\ufeff"]
"""For accounts' routes, where each request may hash a password."""

FEW_TEXTS = [*SLOW_TEXTS, "%", "x" * 10_000, "\U0001f600"]
"""For PostgreSQL: what it might keep or compare in a way of its own. Doors are the same on both engines."""

SKIPPED = {"POST /v1/auth/change-password", "POST /v1/auth/switch", "POST /v1/auth/logout"}


@pytest.fixture(scope="module")
def desk(module_database: Database) -> Iterator[Desk]:
    with open_desk(module_database) as opened:
        opened.ingest(event())
        yield opened


@pytest.fixture(scope="module")
def calm(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A treasury in which no text was thrown at every field."""
    folder = tmp_path_factory.mktemp("calm") / "data"
    with temporary_database(engine_kind, folder) as database, open_desk(database) as opened:
        opened.ingest(event())
        yield opened


@pytest.fixture(scope="module")
def texts(engine_kind: str) -> list[str]:
    return TEXTS if engine_kind == "sqlite" else FEW_TEXTS


@pytest.fixture(scope="module")
def own(desk: Desk) -> dict[str, str]:
    return furnish(desk, desk.org, desk.key, "mine", "own-hidden")


@pytest.fixture(scope="module")
def people(desk: Desk) -> list[Actor]:
    return actors(desk)


def _leaves(part: Any, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:  # noqa: ANN401 - JSON
    """Give the place of every text in a body."""
    if isinstance(part, str):
        yield at
    for name, value in (
        part.items() if isinstance(part, dict) else enumerate(part if isinstance(part, list) else ())
    ):
        yield from _leaves(value, (*at, name))


def _with(body: Any, place: tuple[Any, ...], text: str) -> Any:  # noqa: ANN401 - JSON
    changed = copy.deepcopy(body)
    target = changed
    for name in place[:-1]:
        target = target[name]
    target[place[-1]] = text
    return changed


def test_no_text_in_a_body_breaks_a_route_or_gets_into_a_header(
    desk: Desk, own: dict[str, str], people: list[Actor], texts: list[str]
) -> None:
    taken = 0
    for label, row in ROWS.items():
        if not isinstance(row.body, dict) or label in SKIPPED:
            continue
        method, path = label.split(" ", 1)
        body = filled(row.body, own)
        for place in _leaves(body):
            for text in SLOW_TEXTS if path.startswith("/v1/auth/") else texts:
                sent = _with(body, place, text)
                answer = desk.send(method, path_of(path, own), key=sender_of(row, people), json=sent)
                assert answer.status_code < 500, (label, place, text[:50], answer.text)
                assert "x-injected" not in answer.headers
                assert all(text not in value for value in answer.headers.values() if len(text) > 3), label
                taken += answer.status_code < 300
    assert taken > 20 * len(texts)
    assert desk.rows("SELECT count(*) FROM event")
    assert desk.violations() == ()


def test_no_text_in_a_path_or_filter_breaks_a_route(
    desk: Desk, own: dict[str, str], people: list[Actor], texts: list[str]
) -> None:
    documented = desk.get("/openapi.json").json()["paths"]
    for label, row in ROWS.items():
        method, path = label.split(" ", 1)
        if method != "GET" or path == "/metrics":
            continue
        key = sender_of(row, people)
        parameters = documented[path]["get"].get("parameters", ())
        filters = [one["name"] for one in parameters if one["in"] == "query"]
        needed = filled(dict(row.query), own)
        for text in texts:
            asked = [(path_of(path, own, quote(text, safe="")), needed)]
            asked += [(path_of(path, own), needed | {name: text}) for name in filters]
            for where, params in asked:
                answer = desk.get(where, key=key, **params)
                assert answer.status_code < 500 or answer.status_code == 501, (label, params, text[:50])


@pytest.mark.parametrize("text", WILDCARDS)
def test_a_wildcard_in_a_filter_is_a_character(calm: Desk, text: str) -> None:
    for name in ("agent", "project", "model", "run"):
        found = calm.get("/v1/events", **{name: text}).json()["data"]
        assert all(text in {one["agent"], one["project"], one["model"], one["run"]} for one in found), name
    assert calm.get("/v1/audit", actor=text).json()["data"] == []
    if text != "*":
        assert calm.get("/v1/audit", action=text).json()["data"] == []


KEPT = [text for text in TEXTS if len(text) <= 200 and text.isprintable()]


@pytest.mark.parametrize("text", KEPT, ids=range(len(KEPT)))
def test_what_is_taken_is_given_back_as_it_was(calm: Desk, text: str) -> None:
    assert calm.post("/v1/keys", {"name": text}).json()["name"] == text
    assert text in {one["name"] for one in calm.get("/v1/keys").json()["keys"]}
    budget = calm.post("/v1/budgets", {"name": text, "scope": {"agent": text}, "limit": "1"})
    assert budget.status_code == 201, budget.text
    seen = calm.get(f"/v1/budgets/{budget.json()['id']}").json()
    assert (seen["name"], seen["scope"]) == (text, {"agent": text})
    assert calm.ingest(event(agent_name=text, run_id=text, prompt=text)).status_code == 202
    assert text in {one["agent"] for one in calm.get("/v1/events", agent=text).json()["data"]}
    assert calm.send("PATCH", "/v1/settings", json={"org_name": text}).json()["org_name"] == text
    assert calm.get("/v1/settings").json()["org_name"] == text
    alert = {"agent_name": text, "channel": "email", "threshold_pct": 0.5, "target": text}
    assert calm.post("/v1/alerts/configs", alert).json()["target"] == text
    assert calm.post(f"/v1/agents/{quote(text, safe='')}/pause", {"reason": text}).status_code == 200
    stopped = calm.get(f"/v1/agents/{quote(text, safe='')}/budgets").json()
    assert (stopped["agent"], stopped["stopped_by"]["reason"]) == (text, text)
    assert calm.post(f"/v1/agents/{quote(text, safe='')}/resume", {}).status_code == 200


def test_a_spreadsheet_runs_no_cell_of_the_audit_log(calm: Desk) -> None:
    for text in FORMULAS:
        calm.ingest(event(agent_name=text))
        calm.post("/v1/keys", {"name": text})
        alert = {"agent_name": text, "channel": "email", "threshold_pct": 0.5, "target": "a@example.com"}
        assert calm.post("/v1/alerts/configs", alert).status_code in {200, 201}
        assert calm.post(f"/v1/agents/{quote(text, safe='')}/pause", {"reason": text}).status_code == 200
    table = calm.get("/v1/audit/export").text
    cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
    assert {f"'{text}" for text in FORMULAS} <= set(cells), "as a target of an alert config"
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    lines = [json.loads(line) for line in calm.get("/v1/audit/export", format="jsonl").text.splitlines()]
    kept = json.dumps(lines)
    assert all(json.dumps(text)[1:-1] in kept for text in FORMULAS)


def test_every_table_is_still_there(desk: Desk) -> None:
    assert {"event", "budget", "api_key", "membership", "organisation"} <= set(desk.database.columns())
    assert desk.violations() == ()
