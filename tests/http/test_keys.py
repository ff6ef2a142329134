"""Keys over the whole app: made, listed, rotated, revoked; nothing works a second longer than it should."""

import asyncio
from collections.abc import Iterator

import pytest

from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

DAY_S = 86_400


def made(desk: Desk, **fields: object) -> dict[str, str]:
    answer = desk.post("/v1/keys", {"name": "k", "environment": "local"} | fields)
    assert answer.status_code == 201, answer.text
    body: dict[str, str] = answer.json()
    return body


def listed(desk: Desk, key_id: str) -> dict[str, object]:
    (found,) = [key for key in desk.get("/v1/keys").json()["keys"] if key["id"] == key_id]
    return dict(found)


@pytest.fixture(scope="module")
def desk(module_database: Database) -> Iterator[Desk]:
    with open_desk(module_database) as opened:
        yield opened


@pytest.mark.parametrize(
    ("product", "environment", "prefix"),
    [
        ("agentkavach", "prod", "ak_prod_"),
        ("agentkavach", "dev", "ak_dev_"),
        ("agentkavach", "local", "ak_local_"),
        ("aicostguard", "prod", "acg_live_"),
        ("aicostguard", "dev", "acg_test_"),
        ("aicostguard", "local", "cg_"),
    ],
)
def test_each_product_gets_its_prefix_and_keeps_it(
    desk: Desk, product: str, environment: str, prefix: str
) -> None:
    first = made(desk, product=product, environment=environment)
    assert first["raw_key"].startswith(prefix)
    assert first["prefix"].startswith(prefix)
    assert first["prefix"] != first["raw_key"]
    assert desk.ingest(event(), key=first["raw_key"]).status_code == 202
    second = desk.post(f"/v1/keys/{first['id']}/rotate", None).json()
    assert second["raw_key"].startswith(prefix)
    assert desk.ingest(event(), key=second["raw_key"]).status_code == 202


@pytest.mark.parametrize("field", ["environment", "product", "scopes"])
def test_what_does_not_exist_is_refused_by_name(desk: Desk, field: str) -> None:
    wrong: object = ["nonsense"] if field == "scopes" else "nonsense"
    answer = desk.post("/v1/keys", {"name": "k", field: wrong})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_uses_of_a_revoked_key_are_counted(desk: Desk) -> None:
    key = made(desk)
    assert desk.ingest(event(), key=key["raw_key"]).status_code == 202
    assert desk.send("DELETE", f"/v1/keys/{key['id']}").status_code == 204
    for _ in range(3):
        assert desk.ingest(event(), key=key["raw_key"]).status_code == 401
    desk.run(desk.treasury.authenticator.flush())
    after = listed(desk, key["id"])
    assert (after["is_active"], after["auth_failures_count"]) == (False, 3)
    assert after["last_failed_at"] is not None
    assert after["revoked_at"] is not None


def test_a_rotation_with_an_overlap_lets_both_work_for_a_while(database: Database) -> None:
    with open_desk(database) as desk:
        old = made(desk, agent="a", scopes=["ingest", "read"], expires_in_days=30)
        new = desk.post(f"/v1/keys/{old['id']}/rotate", {"overlap_s": 60}).json()
        assert (new["name"], new["scopes"], new["agent"]) == ("k", ["ingest", "read"], "a")
        seen = listed(desk, old["id"])
        assert (seen["is_active"], seen["replaced_by"], seen["revoked_at"]) == (True, new["id"], None)
        for key in (old, new):
            assert desk.ingest(event(agent_name="a"), key=key["raw_key"]).status_code == 202
        desk.now += 60_000_000
        desk.treasury.authenticator.forget()
        assert desk.ingest(event(agent_name="a"), key=old["raw_key"]).status_code == 401
        assert desk.ingest(event(agent_name="a"), key=new["raw_key"]).status_code == 202
        assert listed(desk, old["id"])["is_active"] is False


def test_a_key_has_one_successor_however_it_is_rotated(desk: Desk) -> None:
    key = made(desk)

    async def rotate_often() -> list[int]:
        path, headers = f"/v1/keys/{key['id']}/rotate", {"Authorization": f"Bearer {desk.key}"}
        bodies = [{"overlap_s": 60}, None, {"overlap_s": 5}, {"overlap_s": 60}]
        asked = [desk.client.post(path, headers=headers, json=body) for body in bodies]
        return sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert desk.run(rotate_often()) == [201, 404, 404, 404]


def test_an_overlapping_key_can_still_be_revoked(desk: Desk) -> None:
    old = made(desk)
    desk.post(f"/v1/keys/{old['id']}/rotate", {"overlap_s": 3600})
    assert desk.ingest(event(), key=old["raw_key"]).status_code == 202
    assert desk.send("DELETE", f"/v1/keys/{old['id']}").status_code == 204
    assert desk.ingest(event(), key=old["raw_key"]).status_code == 401


def test_two_hundred_clients_never_meet_a_gap_when_a_key_is_rotated_with_an_overlap(desk: Desk) -> None:
    old = made(desk)

    async def use(raw: str) -> int:
        headers = {"Authorization": f"Bearer {raw}"}
        return (await desk.client.post("/v1/ingest", headers=headers, json={"events": [event()]})).status_code

    async def clients() -> tuple[list[int], list[int]]:
        before = [asyncio.create_task(use(old["raw_key"])) for _ in range(100)]
        headers = {"Authorization": f"Bearer {desk.key}"}
        answer = await desk.client.post(
            f"/v1/keys/{old['id']}/rotate", headers=headers, json={"overlap_s": 60}
        )
        new = answer.json()["raw_key"]
        after = [asyncio.create_task(use(raw)) for raw in (old["raw_key"], new) for _ in range(50)]
        return list(await asyncio.gather(*before)), list(await asyncio.gather(*after))

    before, after = desk.run(clients())
    assert set(before + after) == {202}


def test_no_request_that_began_after_a_revocation_answered_is_let_in(desk: Desk) -> None:
    key = made(desk)

    async def race() -> list[int]:
        headers = {"Authorization": f"Bearer {key['raw_key']}"}
        body = {"events": [event()]}
        running = [
            asyncio.create_task(desk.client.post("/v1/ingest", headers=headers, json=body)) for _ in "x" * 20
        ]
        admin = {"Authorization": f"Bearer {desk.key}"}
        assert (
            await desk.client.request("DELETE", f"/v1/keys/{key['id']}", headers=admin)
        ).status_code == 204
        late = [await desk.client.post("/v1/ingest", headers=headers, json=body) for _ in range(5)]
        await asyncio.gather(*running)
        return [answer.status_code for answer in late]

    assert desk.run(race()) == [401] * 5


def test_a_key_ends_by_its_time_and_a_successor_gets_as_long(database: Database) -> None:
    with open_desk(database) as desk:
        key = made(desk, expires_in_days=1)
        desk.now += DAY_S * 1_000_000 // 2
        new = desk.post(f"/v1/keys/{key['id']}/rotate", {"overlap_s": 2 * DAY_S}).json()
        desk.now += DAY_S * 1_000_000 // 2
        desk.treasury.authenticator.forget()
        assert desk.ingest(event(), key=key["raw_key"]).status_code == 401
        assert desk.ingest(event(), key=new["raw_key"]).status_code == 202


def test_a_scope_of_budgets_is_not_one_of_keys(desk: Desk) -> None:
    key = desk.new_key(Scope.BUDGETS)
    assert desk.get("/v1/keys", key=key).status_code == 403
    assert desk.ingest(event(), key=key).status_code == 403


@pytest.mark.parametrize("overlap", [-1, 31 * DAY_S, "soon", None])
def test_an_overlap_that_cannot_be_changes_nothing(desk: Desk, overlap: object) -> None:
    key = made(desk)
    assert desk.post(f"/v1/keys/{key['id']}/rotate", {"overlap_s": overlap}).status_code == 422
    assert listed(desk, key["id"])["replaced_by"] is None
