"""API keys under attack: near misses, look-alikes, hostile texts, races."""

import asyncio

import pytest

from bursar.identity import keys
from bursar.identity.keys import Scope
from support.desk import Desk, event
from support.engines import kept_bytes

HOSTILE = [
    "' OR 1=1 --", "ak_local_", "ak_local_" + "0" * 64, "ak_local_" + "g" * 64, "\x7f", "%00", "a" * 256,
    "a" * 257, "a" * 100_000, "ak_prod_*", "null", "Bearer", "op_" + "0" * 64, "{}",
]  # fmt: skip


def near_misses(key: str) -> list[str]:
    """Return every key that differs by one bit of one character, by its end, or by its letters' case."""
    flipped = [
        key[:place] + chr(ord(key[place]) ^ 1 << bit) + key[place + 1 :]
        for place in range(len(key))
        for bit in range(7)
    ]
    cut = [key[:size] for size in range(len(key))]
    others = [key + "0", key * 2, key.upper(), key.replace("local", "prod"), key.replace("local", "dev")]
    return [text for text in (*flipped, *cut, *others) if text.strip() and text.isprintable()]


def test_no_near_miss_of_a_key_is_taken_and_none_costs_a_query(desk: Desk) -> None:
    key = desk.new_key(Scope.INGEST)
    texts = [text for text in near_misses(key) if text.startswith("ak_")]
    assert len(texts) > 400
    assert not any(keys.plausible(text) for text in texts)
    for text in near_misses(key)[::9]:
        assert desk.ingest(event(), key=text).status_code == 401
    assert desk.ingest(event(), key=key).status_code == 202


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16])
@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
def test_hostile_keys_are_plainly_unknown(desk: Desk, header: str, text: str) -> None:
    value = f"Bearer {text}" if header == "Authorization" else text
    answer = desk.post("/v1/ingest", {"events": [event()]}, key="", headers={header: value})
    assert answer.status_code == 401
    assert text not in answer.text or len(text) < 8
    assert "Unauthorized" in answer.json()["message"]


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token x", ""])
def test_another_scheme_is_no_credential(desk: Desk, value: str) -> None:
    answer = desk.post("/v1/ingest", {"events": [event()]}, key="", headers={"Authorization": value})
    assert answer.status_code == 401


def test_a_text_beyond_ascii_is_no_key(desk: Desk) -> None:
    key = desk.new_key(Scope.INGEST)
    for text in (key.replace("a", "а", 1), key.replace("0", "٠"), key + "\u200b"):  # noqa: RUF001 - look-alikes
        headers = [(b"authorization", b"Bearer " + text.encode())]
        asked = desk.client.post("/v1/ingest", json={"events": [event()]}, headers=headers)
        assert desk.run(asked).status_code == 401


def test_the_database_holds_no_key(desk: Desk) -> None:
    key = desk.new_key(Scope.INGEST)
    assert desk.ingest(event(), key=key).status_code == 202
    kept = kept_bytes(desk.database)
    assert key.encode() not in kept
    assert key[-20:].encode() not in kept


def test_of_two_rotations_at_once_one_has_a_successor(desk: Desk) -> None:
    made = desk.post("/v1/keys", {"name": "k", "environment": "local"}).json()

    async def rotate_twice() -> list[int]:
        path, headers = f"/v1/keys/{made['id']}/rotate", {"Authorization": f"Bearer {desk.key}"}
        answers = await asyncio.gather(*[desk.client.post(path, headers=headers) for _ in range(2)])
        return sorted(answer.status_code for answer in answers)

    assert desk.run(rotate_twice()) == [201, 404]
    assert desk.ingest(event(), key=made["raw_key"]).status_code == 401


@pytest.mark.parametrize(
    "extra", [{"org": 2}, {"org_id": "org_x"}, {"is_active": False}, {"raw_key": "ak_x"}]
)
def test_a_key_cannot_be_given_what_is_not_its_makers_to_give(desk: Desk, extra: dict[str, object]) -> None:
    assert desk.post("/v1/keys", {"name": "k"} | extra).status_code == 422


@pytest.mark.parametrize("scope", [Scope.INGEST, Scope.READ])
def test_a_lesser_key_makes_no_keys_and_no_prices(desk: Desk, scope: Scope) -> None:
    lesser = desk.new_key(scope)
    assert desk.post("/v1/keys", {"name": "k", "scopes": ["admin"]}, key=lesser).status_code == 403
    assert desk.get("/v1/keys", key=lesser).status_code == 403
    assert desk.post("/v1/prices", {"pattern": "x", "percent": -10}, key=lesser).status_code == 403


@pytest.mark.parametrize("bound", [{"agent": "mine"}, {"project": "ours"}], ids=str)
def test_a_bound_key_cannot_get_itself_a_free_one(desk: Desk, bound: dict[str, str]) -> None:
    free = desk.post("/v1/keys", {"name": "free", "scopes": ["admin"]}).json()
    mine = desk.new_key(**bound)
    assert desk.post("/v1/keys", {"name": "k", "scopes": ["admin"]}, key=mine).status_code == 403
    assert desk.post(f"/v1/keys/{free['id']}/rotate", {}, key=mine).status_code == 403
    assert desk.send("DELETE", f"/v1/keys/{free['id']}", key=mine).status_code == 403
    assert desk.get("/v1/keys", key=free["raw_key"]).status_code == 200
