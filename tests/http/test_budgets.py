"""`/v1/budgets`: make, read, change and end budgets, over the whole app and a real file."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from holding import ask, budget, figures, held, settle, window

from bursar.core.ids import new_id, text_from_id
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

DAY = 86_400
MISSING = text_from_id("bud", new_id())


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


@pytest.fixture(scope="module")
def shared(module_database: Database) -> Iterator[Desk]:
    """For requests that change nothing: it has one budget."""
    with open_desk(module_database) as opened:
        budget(opened)
        yield opened


def budgets(desk: Desk, **params: str) -> list[str]:
    return [one["name"] for one in desk.get("/v1/budgets", **params).json()["data"]]


def patch(desk: Desk, made: dict[str, Any], **changes: object) -> dict[str, Any]:
    answer = desk.send("PATCH", f"/v1/budgets/{made['id']}", json=changes)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def audited(desk: Desk) -> list[tuple[str, dict[str, Any]]]:
    rows = desk.rows("SELECT action, details FROM audit WHERE action LIKE 'budget.%' ORDER BY seq")
    return [(str(action), json.loads(str(details))) for action, details in rows]


def state(desk: Desk) -> list[object]:
    """Everything that a refused request must leave as it is."""
    return [desk.rows(f"SELECT * FROM {table}") for table in ("budget", "budget_window", "audit", "alert")]


# Making one


def test_a_budget_is_answered_and_listed_as_it_was_made(desk: Desk) -> None:
    answer = desk.post(
        "/v1/budgets",
        {
            "name": "nightly",
            "scope": {"agent": "bot/7", "model": "gpt-*", "tags": {"team": "ads", "env": "prod"}},
            "metric": "tokens_output",
            "period": "monthly",
            "limit": 5000,
            "mode": "soft",
            "timezone": "America/New_York",
            "reset_hour": 6,
            "thresholds": [
                {"at": 2, "action": "kill", "latch": True},
                1.5,
                {"at": "0.25", "action": "clamp", "max_output_tokens": 100},
            ],
            "unpriced": "allow",
            "on_expiry": "suspense",
            "enforcement": "required",
        },
    )
    made = answer.json()
    assert answer.status_code == 201
    assert made["id"].startswith("bud_")
    assert made == {
        "id": made["id"],
        "name": "nightly",
        "scope": {"agent": "bot/7", "model": "gpt-*", "tags": {"env": "prod", "team": "ads"}},
        "metric": "tokens_output",
        "unit": "tokens",
        "period": "monthly",
        "timezone": "America/New_York",
        "reset_hour": 6,
        "limit": "5000",
        "mode": "soft",
        "thresholds": [
            {"at": 0.25, "action": "clamp", "max_output_tokens": 100},
            {"at": 1.5, "action": "alert"},
            {"at": 2.0, "action": "kill", "latch": True},
        ],
        "unpriced": "allow",
        "on_expiry": "suspense",
        "enforcement": "required",
        "template": False,
        "source": "person",
        "created_at": "2026-03-02T00:00:00Z",
        "budget_state": "ok",
        "window": {
            "starts_at": "2026-03-01T11:00:00Z",
            "ends_at": "2026-04-01T10:00:00Z",
            "resets_at": "2026-04-01T10:00:00Z",
            "state": "open",
            "limit": "5000",
            "settled": "0",
            "held": "0",
            "remaining": "5000",
            "overrun": "0",
            "unheld": "0",
            "lowered": "0",
            "late": "0",
            "unpriced": 0,
            "used_ratio": 0.0,
        },
    }
    assert desk.get(f"/v1/budgets/{made['id']}").json() == made
    assert desk.get("/v1/budgets").json() == {"data": [made], "has_more": False, "next_cursor": None}


def test_a_limit_alone_is_a_hard_daily_budget_of_the_organisation_in_its_zone(desk: Desk) -> None:
    org = desk.run(desk.treasury.create_organisation("tokyo", "Asia/Tokyo")).org
    made = desk.post("/v1/budgets", {"limit": 0.1}, key=desk.new_key(org=org)).json()
    assert (made["scope"], made["metric"], made["period"], made["mode"]) == ({}, "cost", "daily", "hard")
    assert (made["timezone"], made["window"]["starts_at"]) == ("Asia/Tokyo", "2026-03-01T15:00:00Z")
    assert (made["limit"], made["unit"]) == ("0.10", "USD")
    assert [one["at"] for one in made["thresholds"]] == [0.8, 1.0]


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("cost", "USD"),
        ("tokens_total", "tokens"),
        ("tokens_input", "tokens"),
        ("tokens_output", "tokens"),
        ("calls", "calls"),
        ("duration", "ms"),
        ("depth", "levels"),
        ("loops", "loops"),
    ],
)
def test_each_metric_has_its_unit(desk: Desk, metric: str, unit: str) -> None:
    made = budget(desk, "7", metric=metric)
    assert made["unit"] == unit
    assert made["limit"] == ("7.00" if unit == "USD" else "7")


def test_a_number_is_read_by_its_text_and_never_through_a_float(desk: Desk) -> None:
    for text in ("0.1", "1.10", "123456789.123456789", "1e-9"):
        body = b'{"limit": %s}' % text.encode()
        made = desk.send("POST", "/v1/budgets", content=body).json()
        again = desk.post("/v1/budgets", {"limit": text}).json()
        assert made["limit"] == again["limit"]
    assert desk.rows("SELECT DISTINCT limit_amount FROM budget ORDER BY 1") == [
        (1,),
        (100_000_000,),
        (1_100_000_000,),
        (123_456_789_123_456_789,),
    ]


def test_a_key_is_named_by_its_id_outside(desk: Desk) -> None:
    keys = desk.get("/v1/keys").json()["keys"]
    made = budget(desk, scope={"api_key": keys[0]["id"]})
    assert made["scope"] == {"api_key": keys[0]["id"]}
    assert desk.get("/v1/budgets").json()["data"][0]["scope"] == {"api_key": keys[0]["id"]}
    assert json.loads(str(desk.one("SELECT scope FROM budget")[0]))["api_key"] == 1


def test_what_has_no_window_of_its_own_shows_none(desk: Desk) -> None:
    made = [budget(desk, period=period) for period in ("run", "per_run", "session_5h", "session_7d")]
    assert [one["window"] for one in made] == [None] * 4
    assert [one["budget_state"] for one in made] == ["ok"] * 4
    held(desk, run="r-1")
    shown = {one["id"]: one["window"] for one in desk.get("/v1/budgets").json()["data"]}
    assert shown[made[0]["id"]] is None
    assert (shown[made[2]["id"]]["held"], shown[made[3]["id"]]["ends_at"]) == ("0.10", "2026-03-09T00:00:00Z")
    [of_run] = desk.get(f"/v1/budgets/{made[1]['id']}/windows", run="r-1").json()["data"]
    assert (of_run["run"], of_run["held"], of_run["starts_at"]) == ("r-1", "0.10", "2026-03-02T00:00:00Z")
    assert of_run["ends_at"] is None


def test_a_total_has_neither_beginning_nor_end(desk: Desk) -> None:
    shown = budget(desk, period="total")["window"]
    assert (shown["starts_at"], shown["ends_at"], shown["resets_at"]) == (None, None, None)


def test_a_template_is_shown_as_one(desk: Desk) -> None:
    made = budget(desk, "5", scope={}, template=True, name="each")
    assert (made["template"], made["window"]) == (True, None)
    budget(desk, name="plain", scope={})
    assert budgets(desk, template="true") == ["each"]
    assert budgets(desk, template="false") == ["plain"]


# Keys that make repeats harmless


def test_a_repeated_key_answers_the_same_budget_also_after_changes_and_a_restart(desk: Desk) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"name": "b", "limit": "1.00"}
    first = desk.post("/v1/budgets", body, headers=headers)
    again = desk.post("/v1/budgets", body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    patch(desk, first.json(), limit="2.00")
    desk.restart()
    later = desk.post("/v1/budgets", body, headers=headers)
    assert (later.status_code, later.json()["id"], later.json()["limit"]) == (200, first.json()["id"], "2.00")
    assert len(budgets(desk)) == 1
    assert [action for action, _ in audited(desk)] == ["budget.create", "budget.update"]


def test_of_many_at_once_with_one_key_one_makes_the_budget(desk: Desk) -> None:
    headers = {"Idempotency-Key": "once", "Authorization": f"Bearer {desk.key}"}

    async def together() -> list[httpx2.Response]:
        asked = (desk.client.post("/v1/budgets", json={"limit": "1.00"}, headers=headers) for _ in range(20))
        return await asyncio.gather(*asked)

    answers = desk.run(together())
    assert sorted(one.status_code for one in answers) == [200] * 19 + [201]
    assert len({one.json()["id"] for one in answers}) == 1
    assert desk.one("SELECT count(*) FROM budget") == (1,)


def test_a_key_stands_for_one_body(desk: Desk) -> None:
    headers = {"Idempotency-Key": "once"}
    made = desk.post("/v1/budgets", {"limit": "1.00"}, headers=headers).json()
    before = state(desk)
    other = desk.post("/v1/budgets", {"limit": "1.01"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert state(desk) == before
    assert desk.send("DELETE", f"/v1/budgets/{made['id']}").status_code == 204
    ended = desk.post("/v1/budgets", {"limit": "1.00"}, headers=headers)
    assert (ended.status_code, ended.json()["code"]) == (409, "conflict")
    assert budgets(desk) == []


def test_the_same_key_in_two_organisations_makes_two_budgets(desk: Desk) -> None:
    headers = {"Idempotency-Key": "once"}
    stranger = desk.new_key(org=desk.organisation("other"))
    made = [desk.post("/v1/budgets", {"limit": 1}, headers=headers, key=key) for key in (desk.key, stranger)]
    assert [one.status_code for one in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_that_is_none_is_refused(shared: Desk, key: str) -> None:
    before = state(shared)
    answer = shared.post("/v1/budgets", {"limit": "1.00"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
    assert state(shared) == before


# Reading


def test_the_list_has_pages(desk: Desk) -> None:
    for number in range(5):
        budget(desk, name=f"b{number}", scope={"agent": f"a{number}"})
    first = desk.get("/v1/budgets", limit="3").json()
    rest = desk.get("/v1/budgets", limit="3", cursor=first["next_cursor"]).json()
    assert [one["name"] for one in first["data"] + rest["data"]] == ["b0", "b1", "b2", "b3", "b4"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_filters_give_what_may_count_such_calls(desk: Desk) -> None:
    scopes = {
        "all": {}, "a": {"agent": "a"}, "b": {"agent": "b"}, "p": {"project": "p"},
        "ap": {"agent": "a", "project": "p"}, "aq": {"agent": "a", "project": "q"}, "user": {"user": "u"},
    }  # fmt: skip
    for name, scope in scopes.items():
        budget(desk, name=name, scope=scope)
    assert budgets(desk, agent="a") == ["all", "a", "p", "ap", "aq", "user"]
    assert budgets(desk, project="p") == ["all", "a", "b", "p", "ap", "user"]
    assert budgets(desk, agent="b", project="q") == ["all", "b", "user"]
    assert budgets(desk, agent="a", limit="2") == ["all", "a"]


def test_windows_are_listed_newest_first_and_stay_as_they_ended(desk: Desk) -> None:
    made = budget(desk)
    for day in range(4):
        settle(desk, held(desk), f"0.0{day + 1}")
        desk.advance(DAY)
    path = f"/v1/budgets/{made['id']}/windows"
    first = desk.get(path, limit="3").json()
    rest = desk.get(path, limit="3", cursor=first["next_cursor"]).json()
    shown = first["data"] + rest["data"]
    assert [one["settled"] for one in shown] == ["0.04", "0.03", "0.02", "0.01"]
    assert [one["starts_at"][:10] for one in shown] == [
        "2026-03-05",
        "2026-03-04",
        "2026-03-03",
        "2026-03-02",
    ]
    assert {one["state"] for one in shown} == {"closed"}
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/budgets?cursor=x", "cursor"),
        ("/v1/budgets?limit=0", "limit"),
        ("/v1/budgets?limit=201", "limit"),
        ("/v1/budgets?agnet=a", "agnet"),
        ("/v1/budgets/nothing", "budget_id"),
        ("/v1/budgets/{id}/windows?cursor=x", "cursor"),
        ("/v1/budgets/{id}/windows?cursor=%2D%2D1", "cursor"),
        ("/v1/budgets/{id}/windows?cursor=99999999999999999999", "cursor"),
        ("/v1/budgets/{id}/alerts?cursor=x", "cursor"),
    ],
)
def test_parameters_that_are_wrong_are_named(shared: Desk, path: str, field: str) -> None:
    made = shared.get("/v1/budgets").json()["data"][0]["id"]
    answer = shared.send("GET", path.replace("{id}", made))
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_what_a_budget_had_to_tell_is_listed(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.90")
    settle(desk, hold, "1.00")
    path = f"/v1/budgets/{made['id']}/alerts"
    shown = desk.get(path).json()["data"]
    assert sorted((one["type"], one["amount"], one["threshold"]) for one in shown) == [
        ("budget.exceeded", "1.00", None),
        ("budget.overrun", "0.10", None),
        ("budget.threshold", "1.00", 0.8),
        ("budget.threshold", "1.00", 1.0),
    ]
    assert {one["budget_id"] for one in shown} == {made["id"]}
    assert {one["window_starts_at"] for one in shown} == {"2026-03-02T00:00:00Z"}
    overrun = next(one for one in shown if one["type"] == "budget.overrun")
    assert (overrun["hold_id"], overrun["event_id"]) == (hold["id"], None)
    first = desk.get(path, limit="3").json()
    rest = desk.get(path, limit="3", cursor=first["next_cursor"]).json()
    assert first["data"] + rest["data"] == shown


# Changing


def test_a_changed_limit_counts_at_once(desk: Desk) -> None:
    made = budget(desk)
    settle(desk, held(desk, "0.60"), "0.60")
    assert ask(desk, "0.50").status_code == 402
    raised = patch(desk, made, limit="2.00", name="more")
    assert (raised["name"], raised["window"]["remaining"]) == ("more", "1.40")
    held(desk, "0.50")
    lowered = patch(desk, made, limit="0.75")
    assert (lowered["window"]["lowered"], lowered["window"]["remaining"]) == ("0.35", "0.00")
    assert lowered["budget_state"] == "exceeded"
    assert ask(desk, "0.01").status_code == 402
    desk.advance(DAY)
    assert window(desk, made)["limit"] == "0.75"


def test_another_zone_leaves_the_running_window_its_ends(desk: Desk) -> None:
    made = budget(desk)
    moved = patch(desk, made, timezone="Asia/Tokyo", limit="3.00")
    assert moved["timezone"] == "Asia/Tokyo"
    assert (moved["window"]["ends_at"], moved["window"]["limit"]) == ("2026-03-03T00:00:00Z", "3.00")
    desk.advance(DAY)
    following = window(desk, made)
    assert (following["starts_at"], following["ends_at"]) == ("2026-03-03T00:00:00Z", "2026-03-03T15:00:00Z")


def test_each_policy_can_be_changed_and_the_rest_stays(desk: Desk) -> None:
    made = budget(desk)
    changes = {
        "mode": "soft",
        "unpriced": "allow",
        "on_expiry": "suspense",
        "enforcement": "required",
        "thresholds": [{"at": 0.5, "action": "refuse"}],
    }
    assert patch(desk, made, **changes) == {**made, **changes}
    assert patch(desk, made) == {**made, **changes}


def test_a_soft_budget_that_becomes_hard_lists_what_it_let_pass(desk: Desk) -> None:
    made = budget(desk, mode="soft", thresholds=[{"at": 10, "action": "pause"}])
    for _ in range(2):
        settle(desk, held(desk, "1.50"), "1.50")
        desk.advance(DAY)
    settle(desk, held(desk, "1.25"), "1.25")
    held(desk, "0.50")
    hard = patch(desk, made, mode="hard")
    assert (hard["window"]["lowered"], hard["budget_state"]) == ("0.75", "exceeded")
    past = desk.get(f"/v1/budgets/{made['id']}/windows").json()["data"][1:]
    assert [one["lowered"] for one in past] == ["0.50", "0.50"]
    assert desk.violations() == ()
    assert ask(desk, "0.01").status_code == 402


def test_thresholds_that_are_passed_already_are_told_when_they_are_set(desk: Desk) -> None:
    made = budget(desk, thresholds=[])
    settle(desk, held(desk, "0.60"), "0.60")
    path = f"/v1/budgets/{made['id']}/alerts"
    assert desk.get(path).json()["data"] == []
    patch(desk, made, thresholds=[0.5, 0.9])
    patch(desk, made, thresholds=[0.5, 0.95])
    assert [one["threshold"] for one in desk.get(path).json()["data"]] == [0.5]


def test_of_two_changes_in_one_request_both_are_made_or_none(desk: Desk) -> None:
    made = budget(desk)
    before = state(desk)
    answer = desk.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "2.00", "mode": "firm"})
    assert (answer.status_code, answer.json()["field"]) == (422, "mode")
    assert state(desk) == before


@pytest.mark.parametrize(
    "field",
    ["id", "scope", "metric", "period", "reset_hour", "template", "source", "created_at", "window", "x"],
)
def test_what_cannot_be_changed_asks_for_a_new_budget(shared: Desk, field: str) -> None:
    made = shared.get("/v1/budgets").json()["data"][0]
    before = state(shared)
    answer = shared.send("PATCH", f"/v1/budgets/{made['id']}", json={"limit": "9.00", field: "x"})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "make a new budget" in answer.json()["detail"]
    assert state(shared) == before


def test_an_ended_budget_is_gone_and_its_holds_wind_down(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk)
    path = f"/v1/budgets/{made['id']}"
    assert desk.send("DELETE", path).status_code == 204
    before = state(desk)
    asked = [
        desk.send(method, f"{path}{rest}", json={"limit": "2.00"})
        for method, rest in (
            ("DELETE", ""),
            ("PATCH", ""),
            ("GET", ""),
            ("GET", "/windows"),
            ("GET", "/alerts"),
        )
    ]
    assert [one.status_code for one in asked] == [404] * 5
    assert state(desk) == before
    assert budgets(desk) == []
    assert ask(desk, "50").status_code == 201
    assert settle(desk, hold, "0.05").status_code == 200


def test_every_change_is_written_down_with_who_did_it(desk: Desk) -> None:
    made = budget(desk)
    patch(desk, made, limit="2.00", mode="soft")
    patch(desk, made, limit="2.00")
    desk.send("DELETE", f"/v1/budgets/{made['id']}")
    (_, created), (_, updated), (_, deleted) = found = audited(desk)
    assert [action for action, _ in found] == ["budget.create", "budget.update", "budget.delete"]
    assert created["after"]["limit"] == 1_000_000_000
    assert updated == {
        "before": {"limit": 1_000_000_000, "mode": "hard"},
        "after": {"limit": 2_000_000_000, "mode": "soft"},
    }
    assert deleted["before"]["name"] == "daily"
    rows = desk.rows("SELECT DISTINCT actor, target FROM audit WHERE action LIKE 'budget.%'")
    key_id = desk.get("/v1/keys").json()["keys"][0]["id"]
    assert rows == [(f"key:{key_id}", made["id"])]


# Bad input

BAD = [
    ("limit", None, "limit"),
    ("limit", 0, "limit"),
    ("limit", "0", "limit"),
    ("limit", "-1.00", "limit"),
    ("limit", -5, "limit"),
    ("limit", "NaN", "limit"),
    ("limit", "Infinity", "limit"),
    ("limit", "1e30", "limit"),
    ("limit", 1e30, "limit"),
    ("limit", 10**40, "limit"),
    ("limit", "0.0000000001", "limit"),
    ("limit", "1_000", "limit"),
    ("limit", "one", "limit"),
    ("limit", True, "limit"),
    ("limit", ["1.00"], "limit"),
    ("thresholds", [0], "thresholds[0]"),
    ("thresholds", [0.5, 10.1], "thresholds[1]"),
    ("thresholds", [-0.5], "thresholds[0]"),
    ("thresholds", ["NaN"], "thresholds[0]"),
    ("thresholds", [0.00000001], "thresholds[0]"),
    ("thresholds", [True], "thresholds[0]"),
    ("thresholds", [n / 100 for n in range(1, 12)], "thresholds"),
    ("thresholds", [0.8, 0.8], "thresholds"),
    ("thresholds", [0.8, {"at": "0.80"}], "thresholds"),
    ("thresholds", 0.8, "thresholds"),
    ("thresholds", [{"action": "alert"}], "thresholds[0].at"),
    ("thresholds", [{"at": 1, "action": "shout"}], "thresholds[0].action"),
    ("thresholds", [{"at": 1, "action": "clamp"}], "thresholds[0].max_output_tokens"),
    ("thresholds", [{"at": 1, "max_output_tokens": 5}], "thresholds[0].max_output_tokens"),
    ("thresholds", [{"at": 1, "latch": True}], "thresholds[0].latch"),
    ("thresholds", [{"at": 1, "colour": "red"}], "thresholds[0].colour"),
    ("mode", "firm", "mode"),
    ("mode", None, "mode"),
    ("unpriced", "ask", "unpriced"),
    ("on_expiry", "keep", "on_expiry"),
    ("enforcement", True, "enforcement"),
    ("timezone", "Mars/Olympus", "timezone"),
    ("timezone", "PST", "timezone"),
    ("timezone", "../UTC", "timezone"),
    ("timezone", 1, "timezone"),
    ("name", 5, "name"),
    ("name", "x" * 201, "name"),
    ("name", "a\x00b", "name"),
]
BAD_AT_FIRST = [
    ("metric", "euros", "metric"),
    ("metric", 1, "metric"),
    ("period", "fortnightly", "period"),
    ("period", "", "period"),
    ("reset_hour", 24, "reset_hour"),
    ("reset_hour", -1, "reset_hour"),
    ("reset_hour", 1.5, "reset_hour"),
    ("template", "yes", "template"),
    ("colour", "red", "colour"),
    ("id", "bud_1", "id"),
    ("scope", "bot", "scope"),
    ("scope", ["bot"], "scope"),
    ("scope", {"agnet": "bot"}, "scope.agnet"),
    ("scope", {"agent": ""}, "scope.agent"),
    ("scope", {"agent": None}, "scope.agent"),
    ("scope", {"agent": "a\nb"}, "scope.agent"),
    ("scope", {"run": "x" * 300}, "scope.run"),
    ("scope", {"api_key": 1}, "scope.api_key"),
    ("scope", {"api_key": "bot"}, "scope.api_key"),
    ("scope", {"api_key": text_from_id("key", bytes(16))}, "scope.api_key"),
    ("scope", {"tags": ["a"]}, "scope.tags"),
    ("scope", {"tags": {"a": 1}}, "scope.tags.a"),
    ("scope", {"tags": {str(n): "x" for n in range(17)}}, "scope.tags"),
]


@pytest.mark.parametrize(("field", "value", "named"), BAD + BAD_AT_FIRST)
def test_a_wrong_field_of_a_new_budget_is_named_and_nothing_is_made(
    shared: Desk, field: str, value: object, named: str
) -> None:
    before = state(shared)
    answer = shared.post("/v1/budgets", {"limit": "1.00", field: value})
    assert (answer.status_code, answer.json()["field"]) == (422, named), answer.text
    assert state(shared) == before


@pytest.mark.parametrize(("field", "value", "named"), BAD)
def test_a_wrong_field_of_a_change_is_named_and_nothing_changes(
    shared: Desk, field: str, value: object, named: str
) -> None:
    made = shared.get("/v1/budgets").json()["data"][0]
    before = state(shared)
    answer = shared.send("PATCH", f"/v1/budgets/{made['id']}", json={field: value})
    assert (answer.status_code, answer.json()["field"]) == (422, named), answer.text
    assert state(shared) == before


@pytest.mark.parametrize("limit", ["1.5", 1.5, "10000000000000000000"])
def test_a_limit_of_calls_is_whole(shared: Desk, limit: object) -> None:
    answer = shared.post("/v1/budgets", {"metric": "calls", "limit": limit})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"limit": "1.00", "name": "\xff"}', 422),
        (b"\xfe\xff", 422),
        (b'{"limit": NaN}', 422),
        (b'{"limit": 1e99999999999}', 422),
        (b'{"limit": "1.00"', 422),
        (b"[]", 422),
        (b'"1.00"', 422),
        (b"", 422),
        (b'{"limit": "1.00", "name": "' + b"x" * 2**17 + b'"}', 413),
    ],
)
def test_a_body_that_is_no_budget_makes_none(shared: Desk, content: bytes, status: int) -> None:
    made = shared.get("/v1/budgets").json()["data"][0]
    before = state(shared)
    assert shared.send("POST", "/v1/budgets", content=content).status_code == status
    if content:  # an empty change is one that changes nothing
        changed = shared.send("PATCH", f"/v1/budgets/{made['id']}", content=content)
        assert changed.status_code == status
    assert state(shared) == before


def test_a_call_may_meet_so_many_hard_budgets_and_no_more(desk: Desk) -> None:
    for number in range(16):
        budget(desk, name=f"b{number}")
    soft = budget(desk, mode="soft")
    before = state(desk)
    refused = desk.post("/v1/budgets", {"limit": "1.00"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_budgets")
    for changes in ({"mode": "hard"}, {"thresholds": [{"at": 1, "action": "kill"}]}):
        refused = desk.send("PATCH", f"/v1/budgets/{soft['id']}", json=changes)
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_budgets")
    assert state(desk) == before
    budget(desk, scope={"agent": "another"})
    assert ask(desk).status_code == 201


def test_a_call_may_meet_so_many_budgets_and_no_more(desk: Desk) -> None:
    for number in range(64):
        budget(desk, name=f"b{number}", mode="soft")
    refused = desk.post("/v1/budgets", {"limit": "1.00", "mode": "soft", "scope": {"user": "u"}})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_budgets")
    assert len(budgets(desk, limit="200")) == 64


# Who may


def test_only_an_admin_changes_budgets_and_only_a_reader_sees_them(desk: Desk) -> None:
    made = budget(desk)
    path = f"/v1/budgets/{made['id']}"
    reader, sender = desk.new_key(Scope.READ), desk.new_key(Scope.INGEST)
    for key in (reader, sender):
        answers = [
            desk.post("/v1/budgets", {"limit": "1.00"}, key=key),
            desk.send("PATCH", path, key=key, json={"limit": "9.00"}),
            desk.send("DELETE", path, key=key),
        ]
        assert [one.status_code for one in answers] == [403] * 3
    assert desk.get(path, key=reader).json() == made
    assert [desk.get(one, key=sender).status_code for one in (path, "/v1/budgets")] == [403, 403]
    assert desk.get("/v1/budgets", key="").status_code == 401


def test_a_bound_key_sees_the_budgets_that_count_its_calls(desk: Desk) -> None:
    free = desk.get("/v1/keys").json()["keys"][0]["id"]
    scopes = {
        "all": {}, "bot": {"agent": "bot"}, "spy": {"agent": "spy"}, "p": {"project": "p"},
        "q": {"project": "q"}, "free": {"api_key": free},
    }  # fmt: skip
    made = {name: budget(desk, name=name, scope=scope) for name, scope in scopes.items()}
    agent = desk.new_key(Scope.READ, agent="bot")
    project = desk.new_key(Scope.READ, project="p")
    shown = [one["name"] for one in desk.get("/v1/budgets", key=agent).json()["data"]]
    assert shown == ["all", "bot", "p", "q"]
    assert [one["name"] for one in desk.get("/v1/budgets", key=project).json()["data"]] == [
        "all", "bot", "spy", "p",
    ]  # fmt: skip
    for name in ("spy", "free"):
        for rest in ("", "/windows", "/alerts"):
            assert desk.get(f"/v1/budgets/{made[name]['id']}{rest}", key=agent).status_code == 404
    denied = desk.get("/v1/budgets", key=agent, agent="spy")
    assert (denied.status_code, denied.json()["field"]) == (403, "agent")
    admin = desk.new_key(agent="bot")
    assert desk.post("/v1/budgets", {"limit": "1.00"}, key=admin).status_code == 403
    assert desk.send("DELETE", f"/v1/budgets/{made['bot']['id']}", key=admin).status_code == 403


def test_a_budget_of_another_organisation_is_not_there(desk: Desk) -> None:
    made = budget(desk)
    stranger = desk.new_key(org=desk.organisation("other"))
    before = state(desk)
    for name in (made["id"], MISSING):
        for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/windows")):
            path = f"/v1/budgets/{name}{rest}"
            assert desk.send(method, path, key=stranger, json={"limit": "9.00"}).status_code == 404
    foreign = {"limit": "1.00", "scope": {"api_key": desk.get("/v1/keys").json()["keys"][0]["id"]}}
    assert desk.post("/v1/budgets", foreign, key=stranger).json()["field"] == "scope.api_key"
    assert state(desk) == before


def test_spend_without_a_hold_is_seen_in_the_window(desk: Desk) -> None:
    made = budget(desk, scope={})
    desk.ingest(event(timestamp="2026-03-02T00:00:00Z"))
    assert figures(desk, made) == ("0.01175", "0.00")
    assert window(desk, made)["unheld"] == "0.01175"
