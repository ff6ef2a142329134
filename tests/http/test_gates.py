"""Kill, pause and resume over the whole app: after a kill has answered, nothing behind it is granted."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from holding import ask, budget, held, settle

from bursar.budgets import gate
from bursar.budgets.amounts import Amounts
from bursar.budgets.gate import Gate, GateKey, GateKind, Gates, GateState, Owner, Stop
from bursar.budgets.hold import Granted, Request, checked_request
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Stopped
from bursar.core.ids import new_id
from bursar.enforcement import changes
from bursar.enforcement.changes import Change
from bursar.enforcement.questions import Authorise
from bursar.identity.keys import Scope
from bursar.settings import Settings
from bursar.wiring import Treasury
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database

DAY = 86_400
BOUND = {"holds_granted_after": 0, "lease_connected_s": 2, "lease_cut_off_s": 15}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        held(opened)
        yield opened
        assert opened.violations() == ()


def audited(desk: Desk) -> list[tuple[object, ...]]:
    return desk.rows("SELECT action, target FROM audit WHERE action LIKE 'gate.%' ORDER BY seq")


def status(desk: Desk, agent: str = "bot") -> tuple[str, object]:
    shown = desk.get(f"/v1/agents/{agent}/budgets").json()
    return shown["status"], shown["stopped_by"]


def guard_stop(desk: Desk, key: GateKey) -> None:
    """Stop a gate as a guard would."""

    def how(gates: Gates) -> Gate:
        return gate.stop(gates, key, Stop(Owner.GUARD, GateState.PAUSED, NOW, "loops", "guard"))

    async def work(change: Change) -> Gate:
        return await changes.change_gate(change, key, how)

    desk.run(desk.treasury.enforcement.desk.change(desk.org, work))


# One agent


def test_a_killed_agent_is_refused_at_once_and_a_resumed_one_is_not(desk: Desk) -> None:
    hold = held(desk)
    key_id = desk.get("/v1/keys").json()["keys"][0]["id"]
    killed = desk.post("/v1/agents/bot/kill", {"reason": "runaway"})
    assert (killed.status_code, killed.json()) == (
        200,
        {
            "agent": "bot",
            "status": "killed",
            "stopped_by": {
                "owner": "manual",
                "reason": "runaway",
                "actor": f"key:{key_id}",
                "kind": "agent",
                "name": "bot",
                "since": "2026-03-02T00:00:00Z",
            },
            "changed": True,
            "epoch": 1,
            "reason": "runaway",
            "actor": f"key:{key_id}",
            "open_holds": 2,
            "bound": BOUND,
        },
    )
    refused = ask(desk).json()
    assert (refused["status"], refused["code"], refused["reason"]) == (403, "agent_killed", "runaway")
    assert settle(desk, hold, "0.05").status_code == 200
    assert ask(desk, agent="another").status_code == 201
    resumed = desk.post("/v1/agents/bot/resume", {}).json()
    assert (resumed["status"], resumed["stopped_by"], resumed["changed"]) == ("active", None, True)
    assert (resumed["epoch"], resumed["open_holds"]) == (2, 1)
    assert ask(desk).status_code == 201


def test_a_paused_agent_is_refused_until_somebody_resumes_it(desk: Desk) -> None:
    paused = desk.send("POST", "/v1/agents/bot/pause").json()
    assert (paused["status"], paused["reason"]) == ("paused", "")
    assert ask(desk).json()["code"] == "agent_paused"
    desk.advance(30 * DAY)
    desk.restart()
    assert ask(desk).json()["code"] == "agent_paused"
    assert desk.send("POST", "/v1/agents/bot/resume").json()["status"] == "active"
    assert ask(desk).status_code == 201


def test_repeating_a_stop_changes_nothing_and_is_written_down_once(desk: Desk) -> None:
    answers = [desk.post("/v1/agents/bot/kill", {"reason": "again"}).json() for _ in range(3)]
    assert [(one["changed"], one["epoch"]) for one in answers] == [(True, 1), (False, 1), (False, 1)]
    resumed = [desk.post("/v1/agents/bot/resume", {}).json()["changed"] for _ in range(2)]
    assert resumed == [True, False]
    assert audited(desk) == [("gate.kill", "agent:bot"), ("gate.resume", "agent:bot")]
    details = desk.rows("SELECT details FROM audit WHERE action = 'gate.kill'")
    written = json.loads(str(details[0][0]))
    assert (written["before"], written["after"][0]["state"], written["reason"]) == ([], "killed", "again")


def test_an_agent_that_nobody_knows_is_not_found_and_nothing_is_kept(desk: Desk) -> None:
    for verb in ("kill", "pause", "resume"):
        answer = desk.post(f"/v1/agents/nobody/{verb}", {})
        assert (answer.status_code, answer.json()["field"]) == (404, "name")
        assert "spelling" in answer.json()["detail"]
    assert desk.get("/v1/agents/nobody/budgets").status_code == 404
    assert desk.rows("SELECT * FROM gate") == []
    assert audited(desk) == []


def test_an_agent_is_known_by_its_events_its_holds_its_budget_or_its_gate(desk: Desk) -> None:
    desk.ingest(event(agent_name="sender"))
    budget(desk, scope={"agent": "planned"})
    guard_stop(desk, GateKey(GateKind.AGENT, "guarded"))
    for name in ("sender", "planned", "guarded", "bot"):
        assert desk.post(f"/v1/agents/{name}/kill", {}).status_code == 200


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "kill", "a/kill", "ä?#&=+", "100%", "a%2Fb", "-all", ":", "a//b", "/"]
)
def test_a_name_may_hold_any_character(desk: Desk, name: str) -> None:
    held(desk, agent=name)
    path = f"/v1/agents/{quote(name, safe='')}"
    killed = desk.post(f"{path}/kill", {})
    assert (killed.status_code, killed.json().get("agent")) == (200, name)
    assert ask(desk, agent=name).json()["code"] == "agent_killed"
    assert desk.get(f"{path}/budgets").json()["status"] == "killed"
    assert ask(desk).status_code == 201


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"reason": 5}', "reason"),
        (b'{"reason": "' + b"x" * 501 + b'"}', "reason"),
        (b'{"reason": "a\\u0000b"}', "reason"),
        (b"[]", "body"),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_a_reason_that_is_none_stops_nobody(desk: Desk, content: bytes, field: str | None) -> None:
    answer = desk.send("POST", "/v1/agents/bot/kill", content=content)
    assert (answer.status_code, answer.json().get("field")) == (422, field)
    assert (audited(desk), ask(desk).status_code) == ([], 201)


def test_a_kill_does_not_fail_for_a_field_it_does_not_know(desk: Desk) -> None:
    assert desk.post("/v1/agents/bot/kill", {"agent_name": "bot", "force": True}).status_code == 200


def test_the_answer_says_how_long_a_lease_outlives_a_kill(desk: Desk) -> None:
    budget(desk)
    lease = {"idempotency_key": "l", "instance": "process-1", "agent": "bot", "model": "gpt-4o"}
    asked = desk.post("/v1/leases", {**lease, "wants": {"amount_usd": "0.01"}, "ttl_s": 90})
    assert asked.status_code == 201, asked.text
    desk.advance(30)
    killed = desk.post("/v1/agents/bot/kill", {}).json()
    assert killed["bound"] == BOUND | {"lease_cut_off_s": 60}


# Stops of several owners


def test_a_person_ends_the_stops_of_every_owner(desk: Desk) -> None:
    guard_stop(desk, GateKey(GateKind.AGENT, "bot"))
    desk.post("/v1/agents/bot/kill", {})
    shown = desk.get("/v1/gates").json()["data"]
    assert [(one["name"], one["status"], one["epoch"]) for one in shown] == [("bot", "killed", 2)]
    assert [stop["owner"] for stop in shown[0]["stops"]] == ["guard", "manual"]
    assert desk.post("/v1/agents/bot/resume", {}).json()["status"] == "active"
    assert desk.get("/v1/gates").json()["data"] == []


def test_a_budgets_stop_is_not_a_persons_to_end_and_the_answer_says_until_when(desk: Desk) -> None:
    made = budget(desk, "0.20", mode="soft", thresholds=[{"at": 0.5, "action": "kill"}])
    settle(desk, held(desk), "0.10")
    by_budget = {
        "owner": "budget",
        "reason": "daily is used up",
        "actor": None,
        "budget_id": made["id"],
        "budget": "daily",
        "resets_at": "2026-03-03T00:00:00Z",
    }
    assert status(desk) == ("killed", by_budget)
    resumed = desk.post("/v1/agents/bot/resume", {}).json()
    assert (resumed["status"], resumed["stopped_by"], resumed["changed"]) == ("killed", by_budget, False)
    assert ask(desk).json()["code"] == "agent_killed"
    listed = desk.get("/v1/gates").json()
    assert listed["data"] == []
    assert listed["stopped_by_budgets"] == [
        {"scope": {"agent": "bot"}, "status": "killed", "stopped_by": by_budget}
    ]
    desk.advance(DAY)
    assert status(desk) == ("active", None)
    assert desk.get("/v1/gates").json()["stopped_by_budgets"] == []
    assert ask(desk).status_code == 201


def test_a_budgets_stop_ends_when_its_limit_is_raised(desk: Desk) -> None:
    made = budget(desk, "0.20", thresholds=[{"at": 0.5, "action": "pause"}])
    settle(desk, held(desk), "0.10")
    assert ask(desk).json()["code"] == "agent_paused"
    desk.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "1.00"})
    assert status(desk) == ("active", None)
    assert ask(desk).status_code == 201


# Everybody, and projects


def test_killing_all_stops_every_agent_and_resuming_all_leaves_single_stops(desk: Desk) -> None:
    held(desk, agent="other")
    desk.post("/v1/agents/other/pause", {})
    killed = desk.post("/v1/agents/kill-all", {"reason": "fire"}).json()
    assert (killed["status"], killed["agents"], killed["changed"]) == ("killed", 2, True)
    assert (killed["open_holds"], killed["bound"], "agent" in killed) == (2, BOUND, False)
    assert [ask(desk, agent=name).json()["code"] for name in ("bot", "other", "new")] == ["agent_killed"] * 3
    single = desk.post("/v1/agents/bot/resume", {}).json()
    assert (single["status"], single["stopped_by"]["kind"], single["changed"]) == (
        "killed",
        "organisation",
        False,
    )
    assert desk.send("POST", "/v1/agents/kill-all").json()["changed"] is True
    assert desk.send("POST", "/v1/agents/resume-all").json()["status"] == "active"
    assert [ask(desk, agent=name).status_code for name in ("bot", "other")] == [201, 403]
    assert [target for _, target in audited(desk)] == [
        "agent:other", "organisation", "organisation", "organisation",
    ]  # fmt: skip


def test_a_project_is_stopped_with_all_its_agents(desk: Desk) -> None:
    held(desk, project="ours")
    stopped = desk.post("/v1/projects/ours/pause", {"reason": "audit"}).json()
    assert (stopped["project"], stopped["status"], stopped["open_holds"]) == ("ours", "paused", 1)
    assert ask(desk, project="ours").json()["code"] == "agent_paused"
    assert [ask(desk, project=name).status_code for name in ("theirs", "")] == [201, 201]
    assert desk.post("/v1/projects/nobody/kill", {}).status_code == 404
    assert desk.post("/v1/projects/ours/kill", {}).json()["status"] == "killed"
    assert desk.post("/v1/projects/ours/resume", {}).json()["status"] == "active"
    assert ask(desk, project="ours").status_code == 201


def test_stops_are_listed_by_kind_and_name_page_by_page(desk: Desk) -> None:
    names = ["a", "b:c", "d"]
    for name in names:
        held(desk, agent=name, project="p")
        desk.post(f"/v1/agents/{name}/kill", {})
    desk.post("/v1/projects/p/pause", {})
    desk.post("/v1/agents/kill-all", {})
    first = desk.get("/v1/gates", limit="2").json()
    rest = desk.get("/v1/gates", limit="2", cursor=first["next_cursor"]).json()
    last = desk.get("/v1/gates", limit="2", cursor=rest["next_cursor"]).json()
    shown = [(one["kind"], one["name"]) for page in (first, rest, last) for one in page["data"]]
    assert shown == [("agent", "a"), ("agent", "b:c"), ("agent", "d"), ("organisation", ""), ("project", "p")]
    assert (first["has_more"], last["has_more"], last["next_cursor"]) == (True, False, None)
    for cursor in ("x", "nobody:x"):
        assert desk.get("/v1/gates", cursor=cursor).json()["field"] == "cursor"


# Whose word counts


def test_only_a_free_admin_stops_and_a_bound_reader_sees_its_own(desk: Desk) -> None:
    for key in (desk.new_key(Scope.INGEST), desk.new_key(Scope.READ), desk.new_key(agent="bot")):
        for path in ("/v1/agents/bot/kill", "/v1/agents/kill-all", "/v1/agents/bot/resume"):
            assert desk.post(path, {}, key=key).status_code == 403
    assert audited(desk) == []
    held(desk, agent="spy", project="p")
    for path in ("/v1/agents/bot/kill", "/v1/agents/spy/kill", "/v1/projects/p/kill", "/v1/agents/kill-all"):
        assert desk.post(path, {}).status_code == 200
    bound = desk.new_key(Scope.READ, agent="bot")
    shown = desk.get("/v1/gates", key=bound).json()["data"]
    assert [(one["kind"], one["name"]) for one in shown] == [("agent", "bot"), ("organisation", "")]
    assert desk.get("/v1/agents/bot/budgets", key=bound).json()["status"] == "killed"
    assert desk.get("/v1/agents/spy/budgets", key=bound).status_code == 403


def test_an_agent_of_another_organisation_is_not_known_and_not_stopped(desk: Desk) -> None:
    stranger = desk.new_key(org=desk.organisation("other"))
    assert desk.post("/v1/agents/bot/kill", {}, key=stranger).status_code == 404
    assert desk.post("/v1/agents/kill-all", {}, key=stranger).json()["agents"] == 0
    assert desk.get("/v1/agents/bot/budgets", key=stranger).status_code == 404
    assert ask(desk).status_code == 201


# What an agent reads


def test_an_agent_reads_its_budgets_in_both_vocabularies(desk: Desk) -> None:
    mine = budget(desk, "0.40")
    calls = budget(desk, "4", metric="calls", scope={"project": "p"}, name="calls")
    budget(desk, scope={"agent": "another"})
    budget(desk, scope={}, template=True)
    settle(desk, held(desk, "0.30", project="p"), "0.30")
    own = desk.new_key(Scope.READ, agent="bot")
    shown = desk.get("/v1/agents/bot/budgets", key=own)
    body = shown.json()
    assert (body["agent"], body["status"], body["data"]) == ("bot", "active", body["budgets"])
    listed = {one["id"]: one for one in body["data"]}
    assert {mine["id"], calls["id"]} <= set(listed)
    first = listed[mine["id"]]
    assert {**desk.get(f"/v1/budgets/{mine['id']}").json(), **first} == first
    assert (first["budget_type"], first["limit_value"], first["current_usage"], first["usage_pct"]) == (
        "cost", 0.4, 0.3, 75.0,
    )  # fmt: skip
    assert b'"limit_value":0.40,' in shown.content
    assert [listed[calls["id"]][name] for name in ("limit_value", "current_usage", "usage_pct")] == [4, 1, 25]


def test_a_bound_agent_reads_its_budgets_before_its_first_call(desk: Desk) -> None:
    budget(desk, scope={}, name="all")
    new = desk.new_key(Scope.READ, agent="newcomer")
    shown = desk.get("/v1/agents/newcomer/budgets", key=new).json()
    assert [one["name"] for one in shown["data"]] == ["all"]


# Under load


def request(number: int, project: str) -> Request:
    key = new_id()
    call = Call(agent="bot", project=project, model=f"m{number}")
    return checked_request(Request(hold_id=new_id(), key=key, digest=key, call=call, amounts=Amounts(1)))


@pytest.mark.parametrize("path", ["/v1/agents/bot/kill", "/v1/agents/kill-all", "/v1/projects/p/kill"])
def test_after_a_kill_has_answered_no_authorise_commits(desk: Desk, path: str) -> None:
    """I12: hundreds of authorises are under way, before the kill and after it."""
    budget(desk, "9.00", scope={})
    project = "p" if "projects" in path else ""
    held(desk, project=project)
    enforcement = desk.treasury.enforcement
    headers = {"Authorization": f"Bearer {desk.key}"}

    async def one(number: int) -> object:
        return await enforcement.desk.ask(desk.org, Authorise(request(number, project)))

    async def storm() -> tuple[list[object], int, int]:
        before = [asyncio.create_task(one(number)) for number in range(400)]
        await asyncio.wait(before, return_when=asyncio.FIRST_COMPLETED)
        killing = asyncio.create_task(desk.client.post(path, json={}, headers=headers))
        during = []
        while not killing.done():
            during += [asyncio.create_task(one(number)) for number in range(20 if len(during) < 600 else 0)]
            await asyncio.sleep(0)
        assert killing.result().status_code == 200
        stored = len(desk.rows("SELECT id FROM hold"))
        after = [asyncio.create_task(one(number)) for number in range(200)]
        answers = await asyncio.gather(*before, *during, *after)
        assert all(isinstance(answer, Stopped) for answer in answers[-200:])
        return list(answers), stored, len(desk.rows("SELECT id FROM hold"))

    answers, at_the_answer, in_the_end = desk.run(storm())
    assert at_the_answer == in_the_end
    assert 0 < sum(isinstance(answer, Granted) for answer in answers) < len(answers) - 200


# The clock


def test_a_step_of_the_clock_is_in_doubt_until_the_operator_confirms_it(tmp_path: Path) -> None:
    wall, steady = NOW, 0
    treasury = Treasury(Settings(data_dir=tmp_path), clock=lambda: wall, monotonic=lambda: steady)
    token = treasury.operator_token
    with asyncio.Runner() as runner:
        org = runner.run(_first(treasury))
        admin = runner.run(treasury.create_key(org, "admin", frozenset(Scope)))
        enforcement = treasury.enforcement
        assert enforcement.clock_state == "ok"
        wall += 3_600_000_000
        assert enforcement.clock_state == "suspect"
        assert enforcement.now().doubted == NOW
        assert runner.run(_status(treasury))["clock"] == "suspect"
        denied = runner.run(_post(treasury, "/v1/clock/confirm", admin))
        assert (denied.status_code, enforcement.clock_state) == (403, "suspect")
        first, second = (runner.run(_post(treasury, "/v1/clock/confirm", token)).json() for _ in range(2))
        assert (first, second) == ({"clock": "ok", "changed": True}, {"clock": "ok", "changed": False})
        assert enforcement.now().doubted is None
        assert runner.run(_status(treasury))["clock"] == "ok"
        runner.run(treasury.stop())


async def _first(treasury: Treasury) -> object:
    return (await treasury.create_organisation("first", "UTC")).org


async def _status(treasury: Treasury) -> dict[str, object]:
    async with _client(treasury) as client:
        shown: dict[str, object] = (await client.get("/v1/status")).json()
        return shown


async def _post(treasury: Treasury, path: str, key: str) -> httpx2.Response:
    async with _client(treasury) as client:
        return await client.post(path, headers={"Authorization": f"Bearer {key}"})


def _client(treasury: Treasury) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=treasury.app)
    return httpx2.AsyncClient(transport=transport, base_url="http://bursar")
