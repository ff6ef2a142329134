"""`/v1/events`: the calls behind a total, page by page, and one with all that explains it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uuid_utils

sys.path.append(str(Path(__file__).parent))

from reading_server import NOW, ReadingServer

from bursar.core.ids import Org, key_from_text
from bursar.core.time import MICROS_PER_MINUTE
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.identity.keys import Scope
from support.engines import Database

OWN_KEY = "invoice/2026 #7"
EVENT = UsageEvent(
    key=key_from_text(OWN_KEY),
    occurred_at=NOW - MICROS_PER_MINUTE,
    subject=Subject("scout", "openai", "gpt-4o", "web", "chat", "ann"),
    source=Source.INGEST,
    input_tokens=1_000,
    output_tokens=100,
    input_audio_tokens=3,
    duration_ms=250,
    run="run-1",
    attributes={"trace": 12345678901234567890123, "tags": ["a"]},
    prompt="What is owed?",
)


@pytest.fixture(scope="module")
def server(module_database: Database) -> Iterator[ReadingServer]:
    with ReadingServer(module_database) as opened:
        yield opened


@pytest.fixture(scope="module")
def org(server: ReadingServer) -> Org:
    made = server.organisation("acme")
    others = [
        msgspec.structs.replace(
            EVENT,
            key=uuid_utils.uuid7().bytes,
            occurred_at=NOW - minute * MICROS_PER_MINUTE,
            subject=Subject("clerk", "openai", "gpt-4o"),
            input_audio_tokens=0,
            attributes=None,
            prompt=None,
            run="",
        )
        for minute in range(5, 10)
    ]
    server.record(made, [EVENT, *others])
    server.record(made, [msgspec.structs.replace(EVENT, revision=3, reported_nusd=42)])
    return made


@pytest.fixture(scope="module")
def key(server: ReadingServer, org: Org) -> str:
    return server.key(org)


def test_events_are_walked_newest_first_by_cursor(server: ReadingServer, key: str) -> None:
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        body = server.get("/v1/events", key, limit=2, cursor=cursor).json()
        seen += [event["occurred_at"] for event in body["data"]]
        cursor = body["next_cursor"] or ""
    assert (len(seen), len(set(seen)), body["has_more"]) == (6, 6, False)
    assert seen == sorted(seen, reverse=True)


def test_an_event_stands_with_its_last_figures_and_the_names_it_was_sent_with(
    server: ReadingServer, key: str
) -> None:
    event = server.get("/v1/events", key, agent="scout").json()["data"][0]
    assert (event["revision"], event["cost_usd"], event["cost_basis"]) == (3, "0.000000042", "reported")
    names = ("agent", "provider", "model", "project", "feature", "user", "run")
    assert [event[name] for name in names] == ["scout", "openai", "gpt-4o", "web", "chat", "ann", "run-1"]
    assert (event["usage"]["input_tokens"], event["usage"]["input_audio_tokens"]) == (1_000, 3)
    assert (event["source"], event["status"], event["duration_ms"]) == ("ingest", "ok", 250)
    assert event["id"] == f"evt_{EVENT.key.hex()}"


@pytest.mark.parametrize("name", [OWN_KEY, f"evt_{EVENT.key.hex()}", EVENT.key.hex()])
def test_one_event_is_found_by_its_id_and_by_the_callers_key(
    server: ReadingServer, key: str, name: str
) -> None:
    quoted = name.replace("#", "%23").replace(" ", "%20")
    assert server.get(f"/v1/events/{quoted}", key).json()["id"] == f"evt_{EVENT.key.hex()}"


def test_a_price_is_explained_unit_by_unit_and_every_entry_is_listed(server: ReadingServer, key: str) -> None:
    clerk = server.get("/v1/events", key, agent="clerk", limit=1).json()["data"][0]
    price = server.get(clerk["entries_url"], key).json()["price"]
    lines = [
        (line["unit"], line["units"], line["usd_per_million"], line["amount_usd"]) for line in price["lines"]
    ]
    assert lines == [
        ("input_tokens", 1_000, "2.5", "0.0025"),
        ("output_tokens", 100, "10", "0.001"),
    ]
    assert price["computed_cost_usd"] == clerk["cost_usd"] == "0.0035"
    entries = server.get(f"/v1/events/evt_{EVENT.key.hex()}", key).json()["entries"]
    assert [(entry["kind"], entry["revision"]) for entry in entries] == [
        ("post", 0),
        ("reverse", 3),
        ("post", 3),
    ]


def test_a_prompt_is_for_administrators(server: ReadingServer, org: Org, key: str) -> None:
    path = f"/v1/events/evt_{EVENT.key.hex()}"
    assert "prompt" not in server.get(path, key).json()
    administrator = server.key(org, frozenset({Scope.ADMIN}))
    assert server.get(path, administrator).json()["prompt"] == "What is owed?"


def test_attributes_come_back_as_they_were_sent(server: ReadingServer, key: str) -> None:
    text = server.get(f"/v1/events/evt_{EVENT.key.hex()}", key).text
    assert '"attributes":{"trace":12345678901234567890123,"tags":["a"]}' in text


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"cursor": "yesterday"}, "cursor"),
        ({"limit": "201"}, "limit"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"zone": "Nowhere"}, "zone"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    server: ReadingServer, key: str, params: dict[str, str], field: str
) -> None:
    answer = server.get("/v1/events", key, **params)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_an_event_of_another_organisation_or_binding_is_not_found(server: ReadingServer, org: Org) -> None:
    path = f"/v1/events/evt_{EVENT.key.hex()}"
    stranger = server.key(server.organisation("stranger"))
    assert server.get(path, stranger).status_code == 404
    assert server.get("/v1/events", stranger).json()["data"] == []
    bound = server.key(org, agent="clerk")
    assert server.get(path, bound).status_code == 404
    assert {event["agent"] for event in server.get("/v1/events", bound).json()["data"]} == {"clerk"}
