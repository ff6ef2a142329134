"""POST /v1/track, in AI Cost Guard's form: one call a request, always a JSON object in answer."""

import json
from collections.abc import Iterator

import pytest

from bursar.identity.keys import Scope
from support.desk import NOW, Desk, open_desk
from support.engines import Database

NAMES = """SELECT a.name, p.name, f.name, u.name FROM event e
    LEFT JOIN agent a USING (org, agent) LEFT JOIN project p USING (org, project)
    LEFT JOIN feature f USING (org, feature) LEFT JOIN user_label u USING (org, user)"""


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def call(**fields: object) -> dict[str, object]:
    plain = {"provider": "openai", "model": "gpt-4o", "inputTokens": 1500, "outputTokens": 800}
    return plain | fields


def test_a_call_is_recorded_stamped_and_priced(desk: Desk) -> None:
    answer = desk.post("/v1/track", call(latencyMs=812.5, success=True))
    assert answer.status_code == 201
    assert answer.json()["success"] is True
    assert answer.json()["id"].startswith("evt_")
    row = desk.one("SELECT occurred_at, computed_nusd, duration_ms FROM event")
    assert row == (NOW, 11_750_000, 812)


@pytest.mark.parametrize(
    "fields",
    [
        {"feature": "chat", "userId": "u1"},
        {"metadata": {"feature": "chat", "userId": "u1"}},
        {"feature": "chat", "userId": "u1", "metadata": {"feature": "not this", "userId": "nor this"}},
    ],
)
def test_feature_and_user_stand_at_the_top_or_in_metadata(desk: Desk, fields: dict[str, object]) -> None:
    assert desk.post("/v1/track", call(projectId="p1", **fields)).status_code == 201
    assert desk.one(NAMES) == ("default", "p1", "chat", "u1")


def test_what_else_is_sent_is_kept_in_attributes(desk: Desk) -> None:
    sent = call(metadata={"k": [1, 2.5]}, errorMessage="timed out", promptName="greeting", success=False, x=1)
    assert desk.post("/v1/track", sent).status_code == 201
    (text,) = desk.one("SELECT attributes FROM event")
    kept = {"k": [1, 2.5], "errorMessage": "timed out", "promptName": "greeting", "x": 1}
    assert json.loads(str(text)) == kept
    assert desk.one("SELECT errors FROM agent_total") == (1,)


def test_metadata_beyond_four_kibibytes_lose_their_largest_part(desk: Desk) -> None:
    assert desk.post("/v1/track", call(metadata={"big": "x" * 5000, "k": 1})).status_code == 201
    assert json.loads(str(desk.one("SELECT attributes FROM event")[0])) == {"k": 1, "_truncated": True}


@pytest.mark.parametrize("way", ["body", "header"])
def test_an_idempotency_key_counts_a_call_once(desk: Desk, way: str) -> None:
    body = call(idempotencyKey="k1") if way == "body" else call()
    headers = {"Idempotency-Key": "k1"} if way == "header" else {}
    first = desk.post("/v1/track", body, headers=headers)
    again = desk.post("/v1/track", body, headers=headers)
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert first.json()["id"] == again.json()["id"]
    assert again.status_code == 201
    assert desk.recorded() == 1


def test_without_a_key_each_call_is_a_new_one(desk: Desk) -> None:
    desk.post("/v1/track", call())
    desk.post("/v1/track", call())
    assert desk.recorded() == 2


def test_a_key_used_for_another_call_is_a_conflict(desk: Desk) -> None:
    desk.post("/v1/track", call(idempotencyKey="k1"))
    answer = desk.post("/v1/track", call(idempotencyKey="k1", outputTokens=1))
    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"
    assert desk.recorded() == 1


def test_a_cost_of_ones_own_is_reported(desk: Desk) -> None:
    assert desk.post("/v1/track", call(cost=0.5)).status_code == 201
    assert desk.one("SELECT reported_nusd FROM event") == (500_000_000,)


@pytest.mark.parametrize("key_header", ["Authorization", "x-api-key"])
def test_a_key_in_either_header_is_taken(desk: Desk, key_header: str) -> None:
    raw = desk.new_key(Scope.INGEST, text="acg_live_0123456789abcdef")
    value = f"Bearer {raw}" if key_header == "Authorization" else raw
    assert desk.post("/v1/track", call(), key="", headers={key_header: value}).status_code == 201


def test_the_keys_project_wins_and_another_is_refused(desk: Desk) -> None:
    bound = desk.new_key(Scope.INGEST, project="mine")
    assert desk.post("/v1/track", call(), key=bound).status_code == 201
    assert desk.one(NAMES)[1] == "mine"
    refused = desk.post("/v1/track", call(projectId="theirs"), key=bound)
    assert (refused.status_code, refused.json()["field"]) == (422, "projectId")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inputTokens": -1}, "inputTokens"),
        ({"inputTokens": 1.5}, "inputTokens"),
        ({"outputTokens": None}, "outputTokens"),
        ({"outputTokens": True}, "outputTokens"),
        ({"outputTokens": 10**12 + 1}, "outputTokens"),
        ({"provider": ""}, "provider"),
        ({"model": "x" * 257}, "model"),
        ({"model": "bell\x07"}, "model"),
        ({"latencyMs": -1}, "latencyMs"),
        ({"latencyMs": "1"}, "latencyMs"),
        ({"cost": -0.01}, "cost"),
        ({"cost": 9.3e9}, "cost"),
        ({"metadata": []}, "metadata"),
        ({"userId": 5}, "userId"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(desk: Desk, fields: dict[str, object], field: str) -> None:
    answer = desk.post("/v1/track", call(**fields))
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert answer.json()["message"] == answer.json()["error"] == answer.json()["detail"]
    assert desk.recorded() == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'"text"', b"{", b"\xff", b"NaN", b'{"a":1}{}'])
def test_what_is_no_object_is_refused_with_an_object(desk: Desk, body: bytes) -> None:
    answer = desk.send("POST", "/v1/track", content=body)
    assert answer.status_code == 422
    assert isinstance(answer.json(), dict)


def test_a_call_beyond_its_bound_is_refused_unread(desk: Desk) -> None:
    answer = desk.post("/v1/track", call(metadata={"big": "x" * 600_000}))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_nobody_is_refused_with_the_word(desk: Desk) -> None:
    answer = desk.post("/v1/track", call(), key="")
    assert answer.status_code == 401
    assert "Unauthorized" in answer.json()["message"]
