"""What a client asks for at its start: rows of its own, changed only by a new wish, never over a person's."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

NOW = {"timestamp": "2026-03-02T00:00:00Z"}
COST = {"budget_type": "cost", "period": "daily", "limit_value": 100, "unit": "usd"}
DEFAULT_RULES = [
    {"channel": channel, "threshold_pct": share, "budget_type": "cost"}
    for channel, share in (
        ("email", 0.7), ("email", 0.9), ("email", 1.0), ("slack", 0.9), ("slack", 1.0), ("pagerduty", 1.0),
        ("kill", 1.0),
    )
]  # fmt: skip


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def body(*budgets: dict[str, object], **fields: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "agent_name": "research-bot",
        "budgets": list(budgets or [COST]),
        "alert_configs": DEFAULT_RULES,
        "org_budget": None,
    }
    return plain | fields


def sync(desk: Desk, *budgets: dict[str, object], key: str | None = None, **fields: object) -> dict[str, Any]:
    answer = desk.post("/v1/sync-config", body(*budgets, **fields), key=key)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def limits(desk: Desk) -> dict[tuple[str, str, str], str]:
    found = desk.get("/v1/budgets", limit="200").json()["data"]
    return {(one["source"], one["metric"], one["period"]): one["limit"] for one in found}


def test_the_contracts_own_example_is_taken_whole(desk: Desk) -> None:
    sent = [
        COST,
        {"budget_type": "tokens_total", "period": "per_run", "limit_value": 5000.0, "unit": "tokens"},
        {"budget_type": "calls", "period": "per_run", "limit_value": 10.0, "unit": "calls"},
        {"budget_type": "duration", "period": "per_run", "limit_value": 20000.0, "unit": "ms"},
        {"budget_type": "loops", "period": "per_run", "limit_value": 4.0, "unit": "loops"},
    ]
    said = sync(desk, *sent)
    assert (said["status"], said["agent_name"]) == ("ok", "research-bot")
    assert (said["budgets_synced"], said["alerts_synced"], said["org_budget_synced"]) == (5, 7, False)
    assert said["skipped"] == []
    own = "sdk:research-bot"
    assert limits(desk) == {
        (own, "cost", "daily"): "100.00",
        (own, "tokens_total", "run"): "5000",
        (own, "calls", "run"): "10",
        (own, "duration", "run"): "20000",
        (own, "loops", "run"): "4",
    }


def test_the_answer_tells_how_the_agent_stands(desk: Desk) -> None:
    said = sync(desk, COST | {"limit_value": 0.02})
    assert (said["killed"], said["agent_status"], said["budget_state"]) == (False, "active", "ok")
    assert (said["resume_at"], said["poll_interval_s"] > 0) == (None, True)
    desk.ingest(event(**NOW), event(**NOW))
    later = sync(desk, COST | {"limit_value": 0.02})
    (budget,) = later["budgets"]
    assert (budget["current_usage"], budget["usage_pct"]) == (0.0235, 117.5)
    assert (later["killed"], later["budget_state"]) == (True, "exceeded")
    assert later["resume_at"] == "2026-03-03T00:00:00Z"
    assert later["config_version"] == said["config_version"]


def test_the_agent_is_known_before_its_first_event(desk: Desk) -> None:
    sync(desk)
    answer = desk.get("/v1/agents/research-bot/budgets")
    assert [one["limit_value"] for one in answer.json()["budgets"]] == [100]
    assert ("research-bot",) in desk.rows("SELECT name FROM agent")


def test_repeating_it_changes_nothing_and_leaves_no_trace(desk: Desk) -> None:
    tables = ("budget", "alert_config", "synced_config", "audit", "budget_stamp")
    sync(desk)
    before = {table: desk.rows(f"SELECT * FROM {table}") for table in tables}
    desk.now += 1_000_000
    sync(desk)
    assert {table: desk.rows(f"SELECT * FROM {table}") for table in tables} == before


def test_a_new_limit_takes_the_place_of_the_old_one(desk: Desk) -> None:
    for limit in (100, 5, 50):
        sync(desk, COST | {"limit_value": limit})
        assert limits(desk) == {("sdk:research-bot", "cost", "daily"): f"{limit}.00"}
    actions = [action for (action,) in desk.rows("SELECT action FROM audit WHERE action LIKE 'budget.%'")]
    assert actions == ["budget.create", "budget.update", "budget.update"]


def test_a_budget_that_is_no_longer_asked_for_stays_until_a_person_ends_it(desk: Desk) -> None:
    sync(desk, COST, COST | {"period": "monthly"})
    sync(desk, COST)
    assert len(limits(desk)) == 2


def test_a_limit_that_a_person_lowered_stays_lowered(desk: Desk) -> None:
    (budget,) = sync(desk)["budgets"]
    desk.send("PATCH", f"/v1/budgets/{budget['id']}", json={"limit": "5"})
    sync(desk)
    assert limits(desk) == {("sdk:research-bot", "cost", "daily"): "5.00"}
    sync(desk, COST | {"limit_value": 200})
    assert limits(desk) == {("sdk:research-bot", "cost", "daily"): "5.00"}
    sync(desk, COST | {"limit_value": 3})
    assert limits(desk) == {("sdk:research-bot", "cost", "daily"): "3.00"}


def test_a_limit_that_a_person_raised_stays_until_the_client_asks_for_another(desk: Desk) -> None:
    (budget,) = sync(desk)["budgets"]
    desk.send("PATCH", f"/v1/budgets/{budget['id']}", json={"limit": "500"})
    sync(desk)
    assert limits(desk) == {("sdk:research-bot", "cost", "daily"): "500.00"}
    sync(desk, COST | {"limit_value": 200})
    assert limits(desk) == {("sdk:research-bot", "cost", "daily"): "200.00"}


def test_a_persons_budget_stands_beside_and_is_never_touched(desk: Desk) -> None:
    made = {"scope": {"agent": "research-bot"}, "limit": "0.01", "period": "daily"}
    desk.post("/v1/budgets", made)
    sync(desk)
    assert limits(desk)["person", "cost", "daily"] == "0.01"
    desk.ingest(event(**NOW))
    assert desk.ingest(event(**NOW)).json()["reason"] == "tier_agent_limit"


def test_another_agents_budgets_are_never_touched(desk: Desk) -> None:
    sync(desk, COST | {"limit_value": 7}, agent_name="neighbour")
    sync(desk)
    assert limits(desk)["sdk:neighbour", "cost", "daily"] == "7.00"


def test_a_kill_rule_stops_the_agent_at_its_share_of_the_pooled_spend(desk: Desk) -> None:
    rules = [{"channel": "kill", "threshold_pct": 0.5, "budget_type": "cost"}]
    sync(desk, COST | {"limit_value": 0.04}, alert_configs=rules)
    assert desk.ingest(event(**NOW), event(**NOW)).status_code == 202
    answer = desk.ingest(event(**NOW))
    assert (answer.status_code, answer.json()["reason"]) == (429, "tier_agent_limit")
    assert desk.get("/v1/agents/research-bot/budgets").json()["status"] == "killed"
    desk.advance(86_400)
    assert desk.get("/v1/agents/research-bot/budgets").json()["status"] == "active", "no latch"


def test_rules_become_thresholds_of_their_metric_only(desk: Desk) -> None:
    said = sync(desk, COST, {"budget_type": "calls", "period": "daily", "limit_value": 5})
    by_metric = {one["metric"]: one["thresholds"] for one in said["budgets"]}
    assert by_metric["cost"] == [
        {"at": 0.7, "action": "alert"}, {"at": 0.9, "action": "alert"},
        {"at": 1.0, "action": "alert"}, {"at": 1.0, "action": "kill"},
    ]  # fmt: skip
    assert by_metric["calls"] == [{"at": 0.8, "action": "alert"}, {"at": 1.0, "action": "alert"}]


def test_rules_are_replaced_as_a_set_and_a_persons_stay(desk: Desk) -> None:
    own = {"agent_name": "research-bot", "channel": "kill", "threshold_pct": 0.5}
    made = desk.post("/v1/alerts/configs", own)
    assert made.status_code == 201
    sync(desk)
    rule = {"channel": "email", "threshold_pct": 0.6, "budget_type": "cost", "target": "a@example.org"}
    said = sync(desk, alert_configs=[rule])
    found = desk.get("/v1/alerts/configs").json()["data"]
    assert [(one["source"], one["channel"]) for one in found] == [
        ("person", "kill"), ("sdk:research-bot", "email"),
    ]  # fmt: skip
    stops = [{"at": 0.5, "action": "kill"}, {"at": 0.6, "action": "alert"}]
    assert said["budgets"][0]["thresholds"] == stops
    desk.send("DELETE", f"/v1/alerts/configs/{made.json()['id']}")
    assert desk.get("/v1/budgets").json()["data"][0]["thresholds"] == stops[1:]


def test_secrets_are_kept_and_never_shown(desk: Desk) -> None:
    rules = [
        {
            "channel": "webhook",
            "threshold_pct": 0.9,
            "target": "https://hooks.example.org/T0/token-1",
            "secret": "s3cret",
        },
        {"channel": "pagerduty", "threshold_pct": 0.9, "target": "routing-key-of-32-characters"},
    ]
    sync(desk, alert_configs=rules)
    assert desk.one("SELECT target, secret FROM alert_config WHERE channel = 'webhook'")[1] == "s3cret"
    shown = [desk.get(path).text for path in ("/v1/alerts/configs", "/v1/audit")]
    shown.append(str(desk.rows("SELECT details FROM audit")))
    for text in shown:
        assert not any(secret in text for secret in ("s3cret", "token-1", "routing-key-of"))


def test_old_versions_that_deliver_themselves_are_only_recorded(desk: Desk) -> None:
    rules = [
        {"channel": "email", "threshold_pct": 0.9, "dispatch": "sdk"},
        {"channel": "slack", "threshold_pct": 0.9, "dispatch": "backend"},
    ]
    sync(desk, alert_configs=rules)
    found = desk.get("/v1/alerts/configs").json()["data"]
    assert {one["channel"]: one["dispatch"] for one in found} == {"email": "sdk", "slack": "backend"}


def test_an_organisations_budget_comes_from_whoever_has_one_and_null_ends_nothing(desk: Desk) -> None:
    org = COST | {"limit_value": 0.02}
    rules = [{"channel": "email", "threshold_pct": 0.5}]
    said = sync(desk, org_budget=org, org_alert_configs=rules, alert_configs=[])
    assert said["org_budget_synced"]
    for name in ("second", "third"):
        assert not sync(desk, agent_name=name)["org_budget_synced"]
    assert limits(desk)["sdk", "cost", "daily"] == "0.02"
    desk.ingest(event(agent_name="second", **NOW), event(agent_name="second", **NOW))
    assert desk.ingest(event(agent_name="third", **NOW)).json()["reason"] == "org_budget_exceeded"
    sync(desk, agent_name="second", org_budget=COST | {"limit_value": 9})
    assert limits(desk)["sdk", "cost", "daily"] == "9.00"


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        ({"budget_type": "carbon", "period": "daily", "limit_value": 1}, "budgets[0].budget_type"),
        ({"budget_type": "cost", "period": "fortnightly", "limit_value": 1}, "budgets[0].period"),
        ({"budget_type": "cost", "period": "daily", "limit_value": 1, "unit": "eur"}, "budgets[0].unit"),
        ({"budget_type": None, "limit_value": 1}, "budgets[0].budget_type"),
    ],
)
def test_what_we_do_not_know_is_listed_and_the_rest_is_taken(
    desk: Desk, budget: dict[str, object], field: str
) -> None:
    said = sync(desk, budget, COST, surprise={"a": [1]})
    assert [one["field"] for one in said["skipped"]] == [field]
    assert said["budgets_synced"] == 1


def test_a_rule_that_says_nothing_is_passed_over(desk: Desk) -> None:
    rules: list[object] = [
        {"channel": "carrier-pigeon", "threshold_pct": 0.5},
        {"channel": "email", "threshold_pct": 90},
        {"channel": "email", "threshold_pct": 0.5, "target": 7},
        {"threshold_pct": 0.5},
    ]
    said = sync(desk, alert_configs=rules)
    assert said["alerts_synced"] == 1
    assert [one["field"] for one in said["skipped"]] == [
        "alert_configs[1].threshold_pct", "alert_configs[2].target", "alert_configs[3].channel",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"budgets": [COST | {"limit_value": -1}]}, "budgets[0].limit_value"),
        ({"budgets": [COST, COST | {"limit_value": "many"}]}, "budgets[1].limit_value"),
        ({"budgets": [{"budget_type": "calls", "limit_value": 0.5}]}, "budgets[0].limit_value"),
        ({"budgets": [COST | {"limit_value": 10**30}]}, "budgets[0].limit_value"),
        ({"budgets": {"cost": 1}}, "budgets"),
        ({"budgets": ["cost"]}, "budgets[0]"),
        ({"org_budget": 5}, "org_budget"),
        ({"org_budget": COST | {"limit_value": None}}, "org_budget.limit_value"),
        ({"agent_name": ""}, "agent_name"),
        ({"agent_name": 7}, "agent_name"),
        ({"alert_configs": [{}] * 201}, "alert_configs"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_is_half_done(
    desk: Desk, sent: dict[str, object], field: str
) -> None:
    answer = desk.post("/v1/sync-config", body(COST) | sent)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert limits(desk) == {}


def test_more_budgets_than_a_call_may_meet_leave_nothing_behind(desk: Desk) -> None:
    for number in range(15):
        desk.post("/v1/budgets", {"name": f"b{number}", "limit": "1"})
    two = [COST, COST | {"period": "monthly"}]
    answer = desk.post("/v1/sync-config", body(*two))
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_budgets")
    assert ("sdk:research-bot", "cost", "daily") not in limits(desk)
    assert sync(desk)["budgets_synced"] == 1


def test_syncs_at_the_same_time_make_one_budget(desk: Desk) -> None:
    async def together() -> list[int]:
        headers = {"Authorization": f"Bearer {desk.key}"}
        asked = (desk.client.post("/v1/sync-config", json=body(), headers=headers) for _ in range(8))
        return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert desk.run(together()) == [200] * 8
    assert len(limits(desk)) == 1
    assert desk.one("SELECT count(*) FROM alert_config") == (7,)


def test_a_deleted_budget_comes_back_with_the_next_start(desk: Desk) -> None:
    (budget,) = sync(desk)["budgets"]
    desk.send("DELETE", f"/v1/budgets/{budget['id']}")
    (again,) = sync(desk)["budgets"]
    assert (again["limit"], again["id"] != budget["id"]) == ("100.00", True)


def test_calls_made_while_the_config_was_on_its_way_count(desk: Desk) -> None:
    sync(desk)
    desk.ingest(event(timestamp="2026-03-01T23:59:00Z"), event(timestamp="2026-03-01T20:00:00Z"))
    window = desk.one("SELECT settled FROM budget_window")
    assert window == (11_750_000,)


def test_it_needs_a_key_that_may_ingest_and_speaks_only_for_what_it_is_bound_to(desk: Desk) -> None:
    assert desk.post("/v1/sync-config", body(), key="").status_code == 401
    assert desk.post("/v1/sync-config", body(), key=desk.new_key(Scope.READ)).status_code == 403
    bound = desk.new_key(Scope.INGEST, agent="mine")
    assert desk.post("/v1/sync-config", body(), key=bound).status_code == 422
    said = sync(desk, key=bound, agent_name="mine", org_budget=COST)
    assert (said["org_budget_synced"], said["skipped"][0]["field"]) == (False, "org_budget")
    assert set(limits(desk)) == {("sdk:mine", "cost", "daily")}


def test_the_ledger_proves_after_all_that(desk: Desk) -> None:
    sync(desk, COST | {"limit_value": 0.01}, org_budget=COST)
    desk.ingest(event(**NOW), event(**NOW))
    sync(desk, COST | {"limit_value": 0.001}, org_budget=COST)
    assert desk.violations() == ()
