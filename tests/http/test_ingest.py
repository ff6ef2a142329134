"""POST /v1/ingest, item by item, as the published client and its reference know it."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from bursar.core.ids import key_from_text
from bursar.identity.keys import Scope
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database

COST = "SELECT cost_nusd FROM agent_total"


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def test_a_compressed_batch_is_recorded_and_answered_202_exactly(desk: Desk) -> None:
    answer = desk.ingest(event(idempotency_key="a"), event(idempotency_key="b", status="error"))
    # The failed call says 0 and costs 0; the other one's 0 is a price its client did not know.
    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 2, "rejected": 0, "mode": "direct", "rejected_agents": [], "duplicates": 0, "batch": 1,
    }  # fmt: skip
    assert desk.one("SELECT requests, errors, cost_nusd FROM agent_total") == (2, 1, 11_750_000)


def test_plain_and_chunked_bodies_are_taken_as_well(desk: Desk) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        body = json.dumps({"events": [event()]}).encode()
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    assert desk.post("/v1/ingest", {"events": [event()]}).status_code == 202
    assert desk.send("POST", "/v1/ingest", content=pieces()).status_code == 202
    assert desk.recorded() == 2


@pytest.mark.parametrize("path", ["//v1//ingest", "/v1///ingest"])
def test_double_slashes_are_collapsed(desk: Desk, path: str) -> None:
    assert desk.post(f"http://bursar{path}", {"events": [event()]}).status_code == 202


def test_a_trailing_slash_is_never_redirected(desk: Desk) -> None:
    assert desk.post("/v1/ingest/", {"events": [event()]}).status_code == 404


def test_unknown_fields_are_kept_in_attributes(desk: Desk) -> None:
    assert desk.ingest(event(tags={"team": "core"}, trace=10**30, partial=True)).status_code == 202
    (text,) = desk.one("SELECT attributes FROM event")
    assert json.loads(str(text)) == {"tags": {"team": "core"}, "trace": "1" + "0" * 30, "partial": True}


def test_attributes_are_kept_to_four_kibibytes(desk: Desk) -> None:
    assert desk.ingest(event(big="x" * 5000, small=1), event(huge=["x"] * 50_000)).status_code == 202
    texts = desk.rows("SELECT attributes FROM event ORDER BY length(attributes) DESC")
    assert [json.loads(str(text)) for (text,) in texts] == [
        {"small": 1, "_truncated": True},
        {"_truncated": True},
    ]


def test_prompts_lie_apart_and_are_cut(desk: Desk) -> None:
    desk.ingest(event(prompt="é" * 5000))
    assert desk.one("SELECT text FROM prompt") == ("é" * 2048,)
    assert desk.one("SELECT attributes FROM event") == (None,)


def test_a_repeated_key_counts_as_accepted_and_is_counted_once(desk: Desk) -> None:
    desk.ingest(event(idempotency_key="same"))
    again = desk.ingest(event(idempotency_key="same"), event(idempotency_key="same"))
    assert again.status_code == 202
    assert (again.json()["accepted"], again.json()["duplicates"]) == (2, 2)
    assert desk.recorded() == 1


def test_events_without_a_key_are_never_taken_for_repeats(desk: Desk) -> None:
    desk.ingest(event(), event(), event(idempotency_key=""), event(idempotency_key=None))
    assert desk.recorded() == 4


def test_the_same_key_with_other_content_is_rejected_with_its_index(desk: Desk) -> None:
    desk.ingest(event(idempotency_key="same"))
    answer = desk.ingest(event(), event(idempotency_key="same", output_tokens=801))
    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1)
    assert answer.json()["rejected_items"] == [{"index": 1, "code": "idempotency_conflict"}]
    assert desk.recorded() == 2


def test_of_a_mixed_batch_the_good_items_are_recorded_before_the_refusal(desk: Desk) -> None:
    bad = event(input_tokens=-1), "no object", {**event(), "model": None}
    answer = desk.ingest(event(), bad[0], event(), bad[1], bad[2])
    assert answer.status_code == 422
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (2, 3)
    assert [fault["loc"] for fault in body["detail"]] == [
        ["body", "events", 1, "input_tokens"],
        ["body", "events", 3],
        ["body", "events", 4, "model"],
    ]
    assert body["message"] == body["error"] == "events[1]: input_tokens must not be negative"
    assert desk.recorded() == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"events":[]}', b'{"events":{}}', b'{"events":null}', b'{"events":[1]}',
     b'{"events":', b"\xff\xfe"],
)  # fmt: skip
def test_where_nothing_is_good_nothing_is_recorded(desk: Desk, body: bytes) -> None:
    answer = desk.send("POST", "/v1/ingest", content=body)
    assert answer.status_code == 422
    assert answer.json()["accepted"] == 0
    assert answer.json()["rejected"] == 1
    assert desk.recorded() == 0


def test_a_thousand_events_are_a_batch_and_one_more_is_not(desk: Desk) -> None:
    assert desk.ingest(*[event()] * 1000).json()["accepted"] == 1000
    refused = desk.ingest(*[event()] * 1001)
    assert refused.status_code == 422
    assert "1000" in refused.json()["message"]
    refused = desk.ingest(*[event(extra=1)] * 1001)
    assert refused.status_code == 422
    assert desk.recorded() == 1000


def test_costs_with_a_floats_tail_are_rounded_half_to_even(desk: Desk) -> None:
    body = json.dumps({"events": [event(cost="C"), event(cost="D")]})
    exact = body.replace('"C"', "0.01234567850000000").replace('"D"', "0.00000000150000001")
    assert desk.send("POST", "/v1/ingest", content=exact.encode()).status_code == 202
    assert desk.rows("SELECT reported_nusd FROM event ORDER BY reported_nusd") == [(2,), (12_345_678,)]


def test_a_reported_zero_with_tokens_is_computed(desk: Desk) -> None:
    desk.ingest(event(cost=0.0))
    assert desk.one(COST) == (11_750_000,)


def test_an_unknown_model_has_no_cost_rather_than_none_at_all(desk: Desk) -> None:
    desk.ingest(event(model="nobodys-model"))
    assert desk.one("SELECT requests, unpriced_requests, unpriced_tokens, cost_nusd FROM agent_total") == (
        1, 1, 2300, 0,
    )  # fmt: skip


@pytest.mark.parametrize("timestamp", [None, "2026-03-01T14:00:00", "yesterday", 1772373600, ""])
def test_a_time_that_is_none_is_refused_with_its_field(desk: Desk, timestamp: object) -> None:
    answer = desk.ingest(event(timestamp=timestamp))
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "events", 0, "timestamp"]


@pytest.mark.parametrize(
    ("timestamp", "is_suspect"),
    [("2026-03-02T00:04:59Z", 0), ("2026-03-02T00:05:01Z", 1), ("2026-01-26T00:00:01Z", 0),
     ("2026-01-25T23:59:59Z", 1), ("0001-01-01T00:00:00Z", 1), ("9999-12-31T23:59:59Z", 1)],
)  # fmt: skip
def test_a_far_time_is_recorded_as_it_is_and_flagged(desk: Desk, timestamp: str, is_suspect: int) -> None:
    assert desk.ingest(event(timestamp=timestamp)).status_code == 202
    (item,) = desk.get("/v1/events").json()["data"]
    assert (item["occurred_at"], item["clock_suspect"]) == (timestamp, bool(is_suspect))
    assert desk.violations() == ()


def test_a_key_needs_the_scope_ingest(desk: Desk) -> None:
    assert desk.ingest(event(), key=desk.new_key(Scope.READ)).status_code == 403
    assert desk.ingest(event(), key=desk.new_key(Scope.INGEST)).status_code == 202


@pytest.mark.parametrize("key", ["", "ak_local_" + "0" * 64, "nonsense"])
def test_nobody_and_strangers_are_refused_with_the_word(desk: Desk, key: str) -> None:
    answer = desk.ingest(event(), key=key)
    assert answer.status_code == 401
    assert "Unauthorized" in answer.json()["detail"]


def test_a_foreign_key_works_in_either_header(desk: Desk) -> None:
    old = desk.new_key(Scope.INGEST, text="cg_an-older-key")
    body = {"events": [event()]}
    assert desk.post("/v1/ingest", body, key=old).status_code == 202
    assert desk.post("/v1/ingest", body, key="", headers={"x-api-key": old}).status_code == 202


def test_a_bound_key_may_speak_for_its_own_only(desk: Desk) -> None:
    bound = desk.new_key(Scope.INGEST, agent="mine", project="ours")
    answer = desk.ingest(event(agent_name="mine"), event(agent_name="other"), key=bound)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "events", 1, "agent_name"]
    assert desk.one("SELECT p.name FROM event JOIN project p USING (org, project)") == ("ours",)


def test_a_revoked_key_is_refused_at_once(desk: Desk) -> None:
    made = desk.post("/v1/keys", {"name": "k", "environment": "local"}).json()
    assert desk.ingest(event(), key=made["raw_key"]).status_code == 202
    assert desk.send("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    assert desk.ingest(event(), key=made["raw_key"]).status_code == 401
    assert desk.recorded() == 1


def test_half_a_character_does_not_cost_the_batch(desk: Desk) -> None:
    body = json.dumps({"events": [event(prompt="cut here: \ud83d"), event(agent_name="bot \udc00")]})
    assert desk.send("POST", "/v1/ingest", content=body.encode()).status_code == 202
    assert desk.one("SELECT text FROM prompt") == ("cut here: \ufffd",)


def test_a_key_that_is_a_uuid_is_stored_as_itself(desk: Desk) -> None:
    uuid = "0192f0c4-0000-7000-8000-000000000001"
    desk.ingest(event(idempotency_key=uuid), event(idempotency_key="text"))
    kept = {row[0] for row in desk.rows("SELECT key FROM event_key")}
    assert kept == {bytes.fromhex(uuid.replace("-", "")), key_from_text("text")}


def test_an_amount_beyond_64_bits_is_set_aside_and_said(desk: Desk) -> None:
    most = event(cost=9_223_372_036)
    assert desk.ingest(most).status_code == 202
    answer = desk.ingest(event(), most)
    assert answer.status_code == 202
    assert answer.json()["rejected_items"] == [{"index": 1, "code": "amount_overflow"}]
    assert desk.recorded() == 2
    assert desk.rows("SELECT count(*) FROM quarantine") == [(1,)]
    assert desk.violations() == ()


def test_the_servers_time_stamps_nothing_here(desk: Desk) -> None:
    desk.ingest(event())
    assert desk.one("SELECT occurred_at < ? FROM event", NOW) == (1,)


def test_every_answer_carries_a_request_id(desk: Desk) -> None:
    assert desk.ingest(event()).headers["x-request-id"]
    given = desk.post("/v1/ingest", {}, headers={"X-Request-Id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_encoding_is_refused_by_name(desk: Desk, encoding: str) -> None:
    answer = desk.send("POST", "/v1/ingest", content=b"x", headers={"Content-Encoding": encoding})
    assert answer.status_code == 422
    assert answer.json()["field"] == "Content-Encoding"


def test_a_body_of_several_gzip_members_is_one_body(desk: Desk) -> None:
    text = json.dumps({"events": [event()]}).encode()
    body = gzip.compress(text[:50]) + gzip.compress(text[50:])
    answer = desk.send("POST", "/v1/ingest", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 202


def test_a_higher_revision_replaces_and_a_lower_one_changes_nothing(desk: Desk) -> None:
    for revision, output in ((1, 10), (3, 30), (2, 20)):
        sent = event(idempotency_key="one", output_tokens=output, revision=revision)
        assert desk.ingest(sent).json()["accepted"] == 1
    assert desk.one("SELECT sum(requests), sum(output_tokens) FROM rollup_agent") == (1, 30)
    assert desk.violations() == ()
