"""`/v1/incidents`: one a crossing; raise, raise until a time, or keep stopped, over the whole app."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from holding import ask, budget, held, settle, window

from bursar.core.ids import new_id, text_from_id
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

HOUR, DAY = 3_600, 86_400
MISSING = text_from_id("inc", new_id())


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def crossed(desk: Desk, **fields: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a budget that is used up to its limit, and the incident of it."""
    made = budget(desk, **fields)
    settle(desk, held(desk, "1.00"), "1.00")
    [incident] = [one for one in incidents(desk) if one["budget_id"] == made["id"]]
    return made, incident


def incidents(desk: Desk, **params: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = desk.get("/v1/incidents", **params).json()["data"]
    return listed


def decide(desk: Desk, incident: dict[str, Any], verb: str, **body: object) -> httpx2.Response:
    return desk.post(f"/v1/incidents/{incident['id']}/{verb}", body)


def decided(desk: Desk, incident: dict[str, Any], verb: str, **body: object) -> dict[str, Any]:
    answer = decide(desk, incident, verb, **body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def state(desk: Desk) -> list[object]:
    """Everything that a refused decision must leave as it is."""
    tables = ("incident", "approval", "budget_window", "audit", "alert")
    return [desk.rows(f"SELECT * FROM {table}") for table in tables]


# Reading


def test_a_crossing_opens_one_incident_that_says_what_it_is_about(desk: Desk) -> None:
    made, incident = crossed(desk)
    for _ in range(3):
        assert ask(desk).status_code == 402
    assert incidents(desk) == [incident]
    assert incident == {
        "id": incident["id"],
        "budget_id": made["id"],
        "budget": "daily",
        "scope": {"agent": "bot"},
        "metric": "cost",
        "unit": "USD",
        "window": window(desk, made),
        "opened_at": "2026-03-02T00:00:00Z",
        "amount": "1.00",
        "resolution": "open",
        "actor": None,
        "note": "",
        "limit_before": None,
        "until": None,
        "ended_at": None,
    }
    assert incident["id"].startswith("inc_")
    assert desk.get(f"/v1/incidents/{incident['id']}").json() == incident | {"approvals": []}


def test_the_list_is_newest_first_has_pages_and_tells_open_from_decided(desk: Desk) -> None:
    made = budget(desk)
    for _ in range(4):
        settle(desk, held(desk, "1.00"), "1.00")
        desk.advance(DAY)
    shown = incidents(desk)
    assert [one["window"]["starts_at"][:10] for one in shown] == [
        "2026-03-05", "2026-03-04", "2026-03-03", "2026-03-02",
    ]  # fmt: skip
    assert {one["budget_id"] for one in shown} == {made["id"]}
    decided(desk, shown[1], "keep")
    assert incidents(desk, state="decided") == [desk_one(desk, shown[1])]
    assert [one["id"] for one in incidents(desk, state="open")] == [shown[n]["id"] for n in (0, 2, 3)]
    first = desk.get("/v1/incidents", limit="3").json()
    rest = desk.get("/v1/incidents", limit="3", cursor=first["next_cursor"]).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == [one["id"] for one in shown]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def desk_one(desk: Desk, incident: dict[str, Any]) -> dict[str, Any]:
    """Return an incident as the list shows it."""
    shown: dict[str, Any] = desk.get(f"/v1/incidents/{incident['id']}").json()
    del shown["approvals"]
    return shown


def test_an_incident_outlives_its_budget(desk: Desk) -> None:
    made, incident = crossed(desk)
    desk.send("DELETE", f"/v1/budgets/{made['id']}")
    assert [one["budget"] for one in incidents(desk)] == ["daily"]
    before = state(desk)
    refused = decide(desk, incident, "raise", limit="2.00")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert state(desk) == before
    assert decided(desk, incident, "keep")["resolution"] == "kept_stopped"


# Deciding


def test_a_raise_counts_for_the_next_call_and_for_this_window_alone(desk: Desk) -> None:
    made, incident = crossed(desk)
    actor = f"key:{desk.get('/v1/keys').json()['keys'][0]['id']}"
    raised = decided(desk, incident, "raise", limit="1.50", note="launch day\nsee #7")
    assert raised["window"]["remaining"] == "0.50"
    assert {name: raised[name] for name in ("resolution", "actor", "note", "limit_before", "until")} == {
        "resolution": "raised",
        "actor": actor,
        "note": "launch day\nsee #7",
        "limit_before": "1.00",
        "until": None,
    }
    assert raised["approvals"] == [
        {
            "at": "2026-03-02T00:00:00Z",
            "resolution": "raised",
            "actor": actor,
            "note": "launch day\nsee #7",
            "limit": "1.50",
            "until": None,
        }
    ]
    assert ask(desk, "0.51").status_code == 402
    held(desk, "0.50")
    assert desk.get(f"/v1/budgets/{made['id']}").json()["limit"] == "1.00"
    desk.advance(DAY)
    assert window(desk, made)["limit"] == "1.00"
    assert desk.get(f"/v1/incidents/{incident['id']}").json()["ended_at"] is None


def test_a_raise_until_a_time_ends_by_itself_at_its_time(desk: Desk) -> None:
    made, incident = crossed(desk)
    raised = decided(desk, incident, "raise", limit="3.00", until="2026-03-02T02:00:00+01:00")
    assert (raised["resolution"], raised["until"]) == ("raised_until", "2026-03-02T01:00:00Z")
    settle(desk, held(desk, "0.50"), "0.50")
    desk.advance(HOUR - 1)
    assert window(desk, made)["limit"] == "3.00"
    desk.advance(1)
    after = window(desk, made)
    assert (after["limit"], after["lowered"], after["remaining"]) == ("1.00", "0.50", "0.00")
    assert ask(desk).status_code == 402
    assert desk_one(desk, incident)["ended_at"] == "2026-03-02T01:00:00Z"
    before = state(desk)
    desk.advance(HOUR)
    assert state(desk)[:2] == before[:2]
    rows = desk.rows("SELECT actor, action, target FROM audit WHERE action LIKE 'incident.%' ORDER BY seq")
    assert [row[1:] for row in rows] == [
        ("incident.raise", incident["id"]),
        ("incident.take_back", incident["id"]),
    ]
    assert rows[1][0] == "job:holds"


def test_a_raise_ends_at_its_time_also_over_a_restart(desk: Desk) -> None:
    made, incident = crossed(desk)
    decided(desk, incident, "raise", limit="3.00", until="2026-03-02T01:00:00Z")
    desk.restart()
    assert window(desk, made)["limit"] == "3.00"
    desk.now += 2 * HOUR * 1_000_000
    desk.restart()
    desk.run(desk.treasury.enforcement.run_due())
    assert window(desk, made)["limit"] == "1.00"
    assert desk_one(desk, incident)["ended_at"] == "2026-03-02T02:00:00Z"


def test_a_limit_that_was_changed_meanwhile_stays_when_a_raise_ends(desk: Desk) -> None:
    made, incident = crossed(desk)
    decided(desk, incident, "raise", limit="3.00", until="2026-03-02T01:00:00Z")
    desk.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "5.00"})
    desk.advance(HOUR)
    assert window(desk, made)["limit"] == "5.00"
    assert desk_one(desk, incident)["ended_at"] == "2026-03-02T01:00:00Z"


def test_a_raise_whose_window_is_over_ends_without_touching_the_next(desk: Desk) -> None:
    made, incident = crossed(desk)
    decided(desk, incident, "raise", limit="3.00", until="2026-03-03T12:00:00Z")
    desk.advance(2 * DAY)
    listed = desk.get(f"/v1/budgets/{made['id']}/windows").json()["data"]
    assert [(one["limit"], one["state"]) for one in listed] == [("3.00", "closed")]
    assert (window(desk, made)["limit"], desk_one(desk, incident)["ended_at"]) == (
        "1.00",
        "2026-03-04T00:00:00Z",
    )


def test_after_a_raise_the_next_crossing_is_an_incident_of_its_own(desk: Desk) -> None:
    _, incident = crossed(desk)
    decided(desk, incident, "raise", limit="1.50")
    settle(desk, held(desk, "0.50"), "0.50")
    newest, older = incidents(desk)
    assert (older["id"], newest["resolution"], newest["amount"]) == (incident["id"], "open", "1.50")


def test_a_budget_may_be_kept_stopped(desk: Desk) -> None:
    _, incident = crossed(desk)
    kept = decided(desk, incident, "keep", note="no")
    assert (kept["resolution"], kept["limit_before"], kept["window"]["limit"]) == (
        "kept_stopped",
        "1.00",
        "1.00",
    )
    assert [one["limit"] for one in kept["approvals"]] == [None]
    assert ask(desk).status_code == 402


def test_repeating_a_decision_answers_the_same_and_another_one_is_refused(desk: Desk) -> None:
    _, incident = crossed(desk)
    until = "2026-03-02T01:00:00Z"
    first = decided(desk, incident, "raise", limit="2.00", until=until, note="n")
    before = state(desk)
    assert decided(desk, incident, "raise", limit=2, until=until, note="another note") == first
    others: list[tuple[str, dict[str, object]]] = [
        ("raise", {"limit": "2.00"}),
        ("raise", {"limit": "2.01", "until": until}),
        ("raise", {"limit": "2.00", "until": "2026-03-02T02:00:00Z"}),
        ("keep", {}),
    ]
    for verb, body in others:
        answer = decide(desk, incident, verb, **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert state(desk) == before
    desk.advance(HOUR)
    assert decided(desk, incident, "raise", limit="2.00", until=until)["ended_at"] == until


def test_of_many_people_who_decide_at_once_one_does(desk: Desk) -> None:
    made, incident = crossed(desk)
    headers = {"Authorization": f"Bearer {desk.key}"}
    path = f"/v1/incidents/{incident['id']}/raise"

    async def together() -> list[int]:
        limits = (f"{2 + number % 5}.00" for number in range(20))
        asked = (desk.client.post(path, json={"limit": limit}, headers=headers) for limit in limits)
        return sorted(one.status_code for one in await asyncio.gather(*asked))

    assert desk.run(together()) == [200] * 4 + [409] * 16
    [(limit,)] = desk.rows("SELECT limit_amount FROM approval")
    assert desk.one("SELECT limit_amount FROM budget_window") == (limit,)
    assert window(desk, made)["limit"] == f"{int(str(limit)) // 10**9}.00"


def test_a_decision_is_written_down_with_what_was_before(desk: Desk) -> None:
    _, incident = crossed(desk)
    for _ in range(2):
        decided(desk, incident, "raise", limit="2.00", note="n")
    [(target, details)] = desk.rows("SELECT target, details FROM audit WHERE action = 'incident.raise'")
    assert target == incident["id"]
    assert json.loads(str(details)) == {
        "before": {"resolution": "open", "limit": 1_000_000_000},
        "after": {"resolution": "raised", "limit": 2_000_000_000, "until": None},
        "note": "n",
    }


def test_an_incident_of_calls_is_raised_in_calls(desk: Desk) -> None:
    made = budget(desk, "1", metric="calls")
    settle(desk, held(desk), "0.10")
    [incident] = incidents(desk)
    assert (incident["unit"], incident["amount"]) == ("calls", "1")
    assert decide(desk, incident, "raise", limit="1.5").json()["field"] == "limit"
    assert decided(desk, incident, "raise", limit="3")["window"]["limit"] == "3"
    assert desk.get(f"/v1/budgets/{made['id']}").json()["limit"] == "1"


# Bad input


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("raise", {}, "limit"),
        ("raise", {"limit": None}, "limit"),
        ("raise", {"limit": "0"}, "limit"),
        ("raise", {"limit": "-2.00"}, "limit"),
        ("raise", {"limit": "NaN"}, "limit"),
        ("raise", {"limit": "1e30"}, "limit"),
        ("raise", {"limit": True}, "limit"),
        ("raise", {"limit": "0.50"}, "limit"),
        ("raise", {"limit": "1.00"}, "limit"),
        ("raise", {"limit": "2.00", "until": "tomorrow"}, "until"),
        ("raise", {"limit": "2.00", "until": "2026-03-02T12:00:00"}, "until"),
        ("raise", {"limit": "2.00", "until": 5}, "until"),
        ("raise", {"limit": "2.00", "until": "2026-03-02T00:00:00Z"}, "until"),
        ("raise", {"limit": "2.00", "until": "2025-03-02T00:00:00Z"}, "until"),
        ("raise", {"limit": "2.00", "note": 5}, "note"),
        ("raise", {"limit": "2.00", "note": "x" * 1001}, "note"),
        ("raise", {"limit": "2.00", "note": "a\x00b"}, "note"),
        ("raise", {"limit": "2.00", "by": "me"}, "by"),
        ("keep", {"limit": "2.00"}, "limit"),
        ("keep", {"note": ["x"]}, "note"),
    ],
)
def test_a_wrong_field_of_a_decision_is_named_and_nothing_changes(
    desk: Desk, verb: str, body: dict[str, object], field: str
) -> None:
    _, incident = crossed(desk)
    before = state(desk)
    answer = decide(desk, incident, verb, **body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert state(desk) == before


@pytest.mark.parametrize("content", [b"\xff", b"[]", b"{", b'{"limit": NaN}', b""])
def test_a_body_that_is_no_decision_decides_nothing(desk: Desk, content: bytes) -> None:
    _, incident = crossed(desk)
    before = state(desk)
    answer = desk.send("POST", f"/v1/incidents/{incident['id']}/raise", content=content)
    assert answer.status_code == 422
    assert state(desk) == before


@pytest.mark.parametrize(
    ("query", "field"), [("state=closed", "state"), ("cursor=x", "cursor"), ("limit=201", "limit")]
)
def test_parameters_that_are_wrong_are_named(desk: Desk, query: str, field: str) -> None:
    answer = desk.send("GET", f"/v1/incidents?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_raise_comes_too_late_for_a_window_that_is_over(desk: Desk) -> None:
    _, incident = crossed(desk)
    desk.advance(DAY)
    before = state(desk)
    answer = decide(desk, incident, "raise", limit="2.00")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert state(desk) == before


# Who may


def test_only_an_admin_decides_and_another_organisation_finds_nothing(desk: Desk) -> None:
    _, incident = crossed(desk)
    path = f"/v1/incidents/{incident['id']}"
    stranger = desk.new_key(org=desk.organisation("other"))
    keys = (desk.new_key(Scope.READ), desk.new_key(Scope.INGEST), desk.new_key(agent="bot"))
    before = state(desk)
    for key in keys:
        for verb in ("raise", "keep"):
            assert desk.post(f"{path}/{verb}", {"limit": "2.00"}, key=key).status_code == 403
    for name in (incident["id"], MISSING):
        for method, rest in (("GET", ""), ("POST", "/raise"), ("POST", "/keep")):
            answer = desk.send(method, f"/v1/incidents/{name}{rest}", key=stranger, json={})
            assert (answer.status_code, answer.json()["field"]) == (404, "incident_id")
    assert desk.get("/v1/incidents", key=stranger).json()["data"] == []
    assert state(desk) == before


def test_a_bound_key_sees_the_incidents_of_its_own_budgets(desk: Desk) -> None:
    budget(desk, "0.01", scope={"agent": "spy"})
    desk.ingest(event(agent_name="spy", timestamp="2026-03-02T00:00:00Z"))
    [other] = incidents(desk)
    _, mine = crossed(desk)
    bound = desk.new_key(Scope.READ, agent="bot")
    assert [one["id"] for one in desk.get("/v1/incidents", key=bound).json()["data"]] == [mine["id"]]
    assert desk.get(f"/v1/incidents/{mine['id']}", key=bound).status_code == 200
    assert desk.get(f"/v1/incidents/{other['id']}", key=bound).status_code == 404
