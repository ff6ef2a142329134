"""Holds over HTTP: each row of the table of exact semantics, seen by a caller."""

import asyncio
from collections.abc import Iterator

import pytest
from holding import ask, budget, figures, held, settle, void, window

from bursar.identity.keys import Scope
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database
from support.server import running_server


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def test_a_hold_says_what_it_took_and_what_is_left(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.30", user="u", project="p", run="r")
    assert (hold["state"], hold["amount_usd"], hold["kind"]) == ("open", "0.30", "call")
    assert (hold["agent"], hold["user"], hold["project"], hold["run"]) == ("bot", "u", "p", "r")
    assert hold["provider"] == "openai"
    assert hold["deadline_at"] == "2026-03-02T00:10:00Z"
    assert hold["expires_at"] == "2026-03-02T00:15:00Z"
    (seen,) = hold["windows"]
    assert seen == {
        "budget_id": made["id"], "budget": "daily", "metric": "cost", "amount": "0.30", "limit": "1.00",
        "settled": "0.00", "held": "0.30", "remaining": "0.70", "resets_at": "2026-03-03T00:00:00Z",
    }  # fmt: skip


def test_the_headers_tell_what_is_left_of_the_tightest_budget(desk: Desk) -> None:
    tight = budget(desk, "1.00")
    budget(desk, "50.00", name="wide", scope={})
    headers = ask(desk, "0.85").headers
    assert headers["bursar-budget-state"] == "warning"
    assert headers["bursar-budget-remaining"] == "0.15"
    assert headers["bursar-budget-limit"] == "1.00"
    assert headers["bursar-budget-reset"] == "2026-03-03T00:00:00Z"
    assert headers["ratelimit-policy"] == f'"{tight["id"]}";q=1000000000;qu="nano-usd";w=86400'
    assert headers["ratelimit"] == f'"{tight["id"]}";r=150000000;t=86400'


def test_without_a_budget_a_hold_is_granted_and_says_nothing_of_money(desk: Desk) -> None:
    answer = ask(desk, "5.00")
    assert (answer.status_code, answer.json()["windows"]) == (201, [])
    assert "ratelimit" not in answer.headers
    assert settle(desk, answer.json(), "4.00").json()["outcome"] == "settled"


def test_the_same_key_gives_the_same_hold_also_when_the_budget_is_full(desk: Desk) -> None:
    budget(desk)
    first = held(desk, "0.60", "k")
    held(desk, "0.40")
    again = ask(desk, "0.60", "k")
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert ask(desk, "0.01").status_code == 402


def test_another_body_under_the_same_key_is_a_conflict_and_has_no_effect(desk: Desk) -> None:
    made = budget(desk)
    held(desk, "0.60", "k")
    for other in ({"amount": "0.61"}, {"model": "gpt-4o-mini"}, {"user": "u"}, {"deadline_s": 60}):
        answer = ask(desk, **{"amount": "0.60", "key": "k", **other})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
    assert figures(desk, made) == ("0.00", "0.60")


def test_the_same_request_spelt_otherwise_is_the_same(desk: Desk) -> None:
    hold = held(desk, "0.60", "k", project=None)
    for spelt in ({"amount_usd": 0.6}, {"amount_usd": "0.600"}, {"amount_usd": "6e-1", "deadline_s": 600.0}):
        answer = desk.post("/v1/holds", {"model": "gpt-4o", "agent": "bot", "idempotency_key": "k", **spelt})
        assert (answer.status_code, answer.json()["id"]) == (200, hold["id"])


def test_the_key_may_stand_in_the_header_and_must_agree_with_the_body(desk: Desk) -> None:
    body = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}
    ids = [
        desk.post("/v1/holds", sent, headers={"Idempotency-Key": "k"}).json()["id"]
        for sent in (body, body, {**body, "idempotency_key": "k"})
    ]
    assert len(set(ids)) == 1
    other = desk.post("/v1/holds", {**body, "idempotency_key": "k2"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["field"]) == (422, "idempotency_key")


def test_without_a_key_each_request_is_a_hold_of_its_own(desk: Desk) -> None:
    assert held(desk)["id"] != held(desk)["id"]


def test_twenty_copies_of_one_request_at_once_are_one_hold(desk: Desk) -> None:
    made = budget(desk)
    body = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10", "idempotency_key": "k"}

    async def together() -> list[tuple[int, str]]:
        headers = {"Authorization": f"Bearer {desk.key}"}
        asked = [desk.client.post("/v1/holds", json=body, headers=headers) for _ in range(20)]
        return [(one.status_code, one.json()["id"]) for one in await asyncio.gather(*asked)]

    answers = desk.run(together())
    assert len({hold for _, hold in answers}) == 1
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert figures(desk, made) == ("0.00", "0.10")


def test_a_hundred_callers_at_once_never_pass_the_limit_and_use_all_of_it(desk: Desk) -> None:
    made = budget(desk)
    body = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.03"}

    async def together() -> list[int]:
        headers = {"Authorization": f"Bearer {desk.key}"}
        asked = [desk.client.post("/v1/holds", json=body, headers=headers) for _ in range(100)]
        return [one.status_code for one in await asyncio.gather(*asked)]

    statuses = desk.run(together())
    assert (statuses.count(201), statuses.count(402)) == (33, 67)
    assert figures(desk, made) == ("0.00", "0.99")


def test_a_refusal_says_which_budget_how_much_is_held_by_whom_and_when_it_resets(desk: Desk) -> None:
    made = budget(desk, scope={"project": "p"}, name="team p")
    held(desk, "0.30", project="p")
    held(desk, "0.20", project="p")
    held(desk, "0.25", project="p", agent="other")
    settle(desk, held(desk, "0.05", project="p"), "0.05")
    answer = ask(desk, "0.21", project="p")
    body = answer.json()
    assert (answer.status_code, body["code"], body["reason"]) == (402, "budget_exceeded", "no_room")
    assert (body["budget_id"], body["budget"], body["scope"]) == (made["id"], "team p", {"project": "p"})
    assert (body["limit"], body["settled"], body["held"]) == ("1.00", "0.05", "0.75")
    assert (body["asked"], body["remaining"], body["budget_state"]) == ("0.21", "0.20", "exceeded")
    assert body["resets_at"] == body["window"]["ends_at"] == "2026-03-03T00:00:00Z"
    assert body["held_by"] == [
        {"agent": "bot", "amount": "0.50", "holds": 2},
        {"agent": "other", "amount": "0.25", "holds": 1},
    ]
    for part in ('"team p"', "0.50 by bot", "0.25 by other", "2026-03-03T00:00:00Z"):
        assert part in body["detail"]
    assert "retry-after" not in answer.headers
    assert answer.headers["bursar-budget-remaining"] == "0.20"
    explained = desk.client.get(body["explain"], headers={"Authorization": f"Bearer {desk.key}"})
    assert desk.run(explained).status_code == 200


def test_a_bound_key_learns_no_other_agents_name_from_a_refusal(desk: Desk) -> None:
    budget(desk, scope={})
    held(desk, "0.60", agent="secret-agent")
    key = desk.new_key(Scope.INGEST, agent="bot")
    answer = desk.post("/v1/holds", {"model": "gpt-4o", "amount_usd": "0.50"}, key=key)
    assert answer.status_code == 402
    assert answer.json()["held_by"] == [{"agent": None, "amount": "0.60", "holds": 1}]
    assert "secret-agent" not in answer.text


def test_a_refusal_is_decided_anew_under_the_same_key(desk: Desk) -> None:
    made = budget(desk)
    blocking = held(desk, "0.95")
    assert ask(desk, "0.10", "k").status_code == 402
    void(desk, blocking)
    assert ask(desk, "0.10", "k").status_code == 201
    assert figures(desk, made) == ("0.00", "0.10")


def test_a_raised_limit_counts_for_the_next_hold_and_a_lowered_one_revokes_nothing(desk: Desk) -> None:
    made = budget(desk)
    held(desk, "1.00")
    assert ask(desk, "0.50").status_code == 402
    desk.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "1.50"})
    second = held(desk, "0.50")
    desk.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "0.40"})
    assert ask(desk, "0.01").status_code == 402
    body = settle(desk, second, "0.50").json()
    assert (body["outcome"], body["windows"][0]["overrun"]) == ("settled", "0.00")
    assert window(desk, made)["lowered"] == "1.10"


def test_a_deleted_budget_lets_its_holds_end_and_still_has_a_name(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "1.00")
    desk.send("DELETE", f"/v1/budgets/{made['id']}")
    assert ask(desk, "5.00").status_code == 201
    body = settle(desk, hold, "0.50").json()
    assert [(seen["budget"], seen["settled"]) for seen in body["windows"]] == [("daily", "0.50")]


def test_a_budget_made_later_gets_no_part_of_an_open_hold(desk: Desk) -> None:
    hold = held(desk, "1.00")
    desk.advance(1)
    made = budget(desk)
    assert settle(desk, hold, "1.00").json()["windows"] == []
    assert figures(desk, made) == ("0.00", "0.00")


def test_a_call_that_ends_after_midnight_counts_where_it_was_granted(desk: Desk) -> None:
    made = budget(desk)
    desk.advance(86_400 - 30)
    hold = held(desk, "0.60", deadline_s=60)
    desk.advance(60)
    assert held(desk, "1.00")["windows"][0]["held"] == "1.00"
    body = settle(desk, hold, "0.60").json()
    assert (body["outcome"], body["windows"][0]["settled"]) == ("settled", "0.60")
    days = desk.get(f"/v1/budgets/{made['id']}/windows").json()["data"]
    assert [(day["settled"], day["held"], day["state"]) for day in days] == [
        ("0.00", "1.00", "open"),
        ("0.60", "0.00", "closed"),
    ]


def test_a_killed_agent_gets_no_hold_and_may_settle_what_it_has(desk: Desk) -> None:
    budget(desk)
    hold = held(desk)
    desk.post("/v1/agents/bot/kill", {"reason": "runs wild"})
    refused = ask(desk, "0.01")
    body = refused.json()
    assert (refused.status_code, body["code"], body["owner"]) == (403, "agent_killed", "manual")
    assert (body["reason"], body["resume_at"]) == ("runs wild", None)
    assert body["actor"]
    assert "runs wild" in body["detail"]
    assert settle(desk, hold, "0.05").json()["outcome"] == "settled"
    desk.post("/v1/agents/bot/resume", {})
    assert ask(desk, "0.01").status_code == 201


def test_a_budget_that_pauses_names_itself_and_its_end(desk: Desk) -> None:
    made = budget(desk, mode="soft", thresholds=[{"at": 1, "action": "pause"}])
    settle(desk, held(desk, "1.00"), "1.00")
    refused = ask(desk, "0.01")
    body = refused.json()
    assert (refused.status_code, body["code"], body["owner"]) == (403, "agent_paused", "budget")
    assert (body["budget_id"], body["resume_at"]) == (made["id"], "2026-03-03T00:00:00Z")


def test_spend_without_a_hold_takes_room_from_the_next(desk: Desk) -> None:
    budget(desk, "0.0235")
    desk.ingest(event(agent_name="bot", timestamp="2026-03-02T00:00:00Z"))
    assert ask(desk, "0.0118").status_code == 402
    assert ask(desk, "0.01175").status_code == 201


def test_a_bound_key_asks_for_its_agent_only(desk: Desk) -> None:
    key = desk.new_key(Scope.INGEST, agent="bot", project="p")
    body = {"model": "gpt-4o", "amount_usd": "0.10"}
    own = desk.post("/v1/holds", body, key=key).json()
    assert (own["agent"], own["project"]) == ("bot", "p")
    for field in ("agent", "project"):
        wrong = desk.post("/v1/holds", {**body, field: "else"}, key=key)
        assert (wrong.status_code, wrong.json()["field"]) == (422, field)
    # Names that a free key has sent before pass no bound one.
    desk.post("/v1/holds", {**body, "agent": "else"})
    assert desk.post("/v1/holds", {**body, "agent": "else"}, key=key).status_code == 422


def test_asking_needs_the_scope_ingest(desk: Desk) -> None:
    reader = desk.new_key(Scope.READ)
    assert (
        desk.post("/v1/holds", {"agent": "b", "model": "m", "amount_usd": 1}, key=reader).status_code == 403
    )
    assert desk.post("/v1/holds", {"agent": "b", "model": "m", "amount_usd": 1}, key="").status_code == 401


def test_a_hold_survives_a_server_that_is_killed_and_its_key_finds_it(database: Database) -> None:
    body = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.60", "idempotency_key": "k"}
    with running_server(database) as server:
        server.post("/v1/budgets", {"name": "daily", "scope": {"agent": "bot"}, "limit": "1.00"})
        first = server.post("/v1/holds", body)
        assert first.status_code == 201
        server.kill9()
    with running_server(database) as server:
        again = server.post("/v1/holds", body)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        assert server.post("/v1/holds", {**body, "idempotency_key": "l"}).status_code == 402
        settled = server.post(f"/v1/holds/{first.json()['id']}/settle", {"cost_usd": "0.10"})
        assert settled.json()["windows"][0]["remaining"] == "0.90"


def test_times_of_holds_are_the_servers(desk: Desk) -> None:
    assert desk.now == NOW
    assert held(desk)["created_at"] == "2026-03-02T00:00:00Z"
