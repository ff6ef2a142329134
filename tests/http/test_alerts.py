"""/v1/alerts and /v1/alerts/configs: what has happened, and whom it is to be told."""

from collections.abc import Iterator
from typing import Any

import pytest

from bursar.core.time import text_from_micros
from bursar.http.v1.alert_configs import configs_of_agent
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

NOW = {"timestamp": "2026-03-02T00:00:00Z"}
CONFIG = {"agent_name": "research-bot", "channel": "email", "threshold_pct": 0.8, "target": "ops@example.org"}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def alerts(desk: Desk, **params: str) -> list[dict[str, Any]]:
    answer = desk.get("/v1/alerts", **params)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["alerts"] == body["data"]
    return list(body["alerts"])


def spend(desk: Desk, agent: str = "research-bot") -> None:
    scope = {"agent": agent}
    desk.post("/v1/budgets", {"name": f"{agent} daily", "scope": scope, "limit": "0.014", "period": "daily"})
    desk.ingest(event(agent_name=agent, timestamp=text_from_micros(desk.now)))


def test_a_threshold_is_told_in_both_vocabularies(desk: Desk) -> None:
    spend(desk)
    (alert,) = alerts(desk)
    assert alert["type"] == "budget.threshold"
    told = [alert[name] for name in ("agent_name", "threshold_pct", "budget_type", "period", "level")]
    assert told == ["research-bot", 0.8, "cost", "daily", "warning"]
    assert (alert["current_value"], alert["limit_value"]) == (0.01175, 0.014)
    assert alert["timestamp"] == alert["at"] == "2026-03-02T00:00:00Z"
    assert alert["message"] == "research-bot daily reached 80 % of its limit"


def test_a_range_is_days_of_the_organisations_zone_today_included(desk: Desk) -> None:
    spend(desk)
    day = 86_400_000_000
    for days, ranges in ((0, 4), (1, 3), (6, 3), (7, 2), (29, 2), (30, 1), (89, 1), (90, 0)):
        desk.now = 1_772_409_600_000_000 + days * day
        found = [bool(alerts(desk, range=span)) for span in ("today", "7d", "30d", "90d")]
        assert sum(found) == ranges, days
    assert alerts(desk) == []


def test_an_unknown_range_is_refused(desk: Desk) -> None:
    assert desk.get("/v1/alerts", range="1y").status_code == 422


def test_the_newest_two_hundred_come_first(desk: Desk) -> None:
    for number in range(70):
        desk.now += 1_000_000
        spend(desk, f"bot-{number}")
        desk.ingest(event(agent_name=f"bot-{number}", timestamp=text_from_micros(desk.now)))
    found = alerts(desk)
    assert len(found) == 200
    assert found == sorted(found, key=lambda one: one["at"], reverse=True)
    assert found[0]["agent_name"] == "bot-69"


def test_the_alerts_of_an_ended_budget_stay(desk: Desk) -> None:
    spend(desk)
    (budget,) = desk.get("/v1/budgets").json()["data"]
    desk.send("DELETE", f"/v1/budgets/{budget['id']}")
    assert [one["budget_id"] for one in alerts(desk)] == [budget["id"]]


def test_a_bound_key_sees_its_own_agents_alerts_only(desk: Desk) -> None:
    spend(desk)
    spend(desk, "secret-bot")
    found = desk.get("/v1/alerts", key=desk.new_key(Scope.READ, agent="research-bot")).json()["alerts"]
    assert [one["agent_name"] for one in found] == ["research-bot"]


def test_another_organisation_sees_none(desk: Desk) -> None:
    spend(desk)
    desk.post("/v1/alerts/configs", CONFIG)
    other = desk.new_key(org=desk.organisation("other"))
    assert desk.get("/v1/alerts", key=other).json()["alerts"] == []
    assert desk.get("/v1/alerts/configs", key=other).json()["data"] == []


def test_a_config_is_made_listed_and_taken_away(desk: Desk) -> None:
    made = desk.post("/v1/alerts/configs", CONFIG)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in CONFIG} == CONFIG
    assert (made.json()["budget_type"], made.json()["source"]) == ("cost", "person")
    body = desk.get("/v1/alerts/configs").json()
    assert body["data"] == body["configs"] == [made.json()]
    path = f"/v1/alerts/configs/{made.json()['id']}"
    other = desk.new_key(org=desk.organisation("other"))
    assert desk.send("DELETE", path, key=other).status_code == 404
    assert desk.send("DELETE", path).status_code == 204
    assert desk.send("DELETE", path).status_code == 404
    assert desk.get("/v1/alerts/configs").json()["data"] == []
    actions = [action for (action,) in desk.rows("SELECT action FROM audit WHERE org = ?", desk.org)]
    assert actions[-2:] == ["alert_config.create", "alert_config.delete"]


def test_lists_are_paged(desk: Desk) -> None:
    for number in range(5):
        desk.post("/v1/alerts/configs", CONFIG | {"agent_name": f"bot-{number}"})
    seen: list[str] = []
    params = {"limit": "2"}
    while True:
        page = desk.get("/v1/alerts/configs", **params).json()
        seen += [one["agent_name"] for one in page["data"]]
        if not page["has_more"]:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [f"bot-{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("channel", "target", "shown"),
    [
        ("email", "ops@example.org", "ops@example.org"),
        ("slack", "https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/…"),
        ("webhook", "https://user:pw@example.org/?token=t", "https://example.org/…"),
        ("pagerduty", "0123456789abcdef", "…cdef"),
        ("pagerduty", "short", "…"),
        ("kill", None, None),
    ],
)
def test_targets_are_shown_as_far_as_they_are_no_secret(
    desk: Desk, channel: str, target: str | None, shown: str | None
) -> None:
    sent = CONFIG | {"channel": channel, "target": target, "secret": "s3cret"}
    made = desk.post("/v1/alerts/configs", sent).json()
    assert (made["target"], made["has_secret"]) == (shown, True)
    assert desk.one("SELECT target, secret FROM alert_config") == (target, "s3cret")
    assert "s3cret" not in str(made)
    details = str(desk.rows("SELECT details FROM audit"))
    assert "s3cret" not in details
    assert target is None or target not in details


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"threshold_pct": 0}, "threshold_pct"),
        ({"threshold_pct": 1.01}, "threshold_pct"),
        ({"threshold_pct": 80}, "threshold_pct"),
        ({"threshold_pct": "0.8"}, "threshold_pct"),
        ({"threshold_pct": True}, "threshold_pct"),
        ({"channel": "carrier-pigeon"}, "channel"),
        ({"agent_name": ""}, "agent_name"),
        ({"budget_type": "loops"}, "budget_type"),
        ({"target": "x" * 3000}, "target"),
        ({"secret": 7}, "secret"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_wrong_with_a_config_is_named(desk: Desk, sent: dict[str, object], field: str) -> None:
    answer = desk.post("/v1/alerts/configs", CONFIG | sent)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert desk.rows("SELECT id FROM alert_config") == []


def test_a_bound_key_reads_its_own_configs_and_makes_none(desk: Desk) -> None:
    desk.post("/v1/alerts/configs", CONFIG)
    desk.post("/v1/alerts/configs", CONFIG | {"agent_name": "other-bot"})
    reader = desk.new_key(Scope.READ, agent="other-bot")
    found = desk.get("/v1/alerts/configs", key=reader).json()["data"]
    assert [one["agent_name"] for one in found] == ["other-bot"]
    writer = desk.new_key(Scope.ADMIN, agent="other-bot")
    assert desk.post("/v1/alerts/configs", CONFIG, key=writer).status_code == 403


def test_an_agents_configs_are_read_for_its_page(desk: Desk) -> None:
    made = desk.post("/v1/alerts/configs", CONFIG).json()
    desk.post("/v1/alerts/configs", CONFIG | {"agent_name": "other-bot"})
    reader = desk.treasury.enforcement.configs
    assert desk.run(configs_of_agent(reader, desk.org, "research-bot")) == [made]


def test_a_persons_kill_rule_stops_the_budgets_that_a_client_brought(desk: Desk) -> None:
    cost = {"budget_type": "cost", "period": "daily", "limit_value": 0.04}
    desk.post("/v1/sync-config", {"agent_name": "research-bot", "budgets": [cost]})
    made = desk.post("/v1/alerts/configs", CONFIG | {"channel": "kill", "threshold_pct": 0.25}).json()
    desk.ingest(event(**NOW))
    assert desk.ingest(event(**NOW)).json()["reason"] == "tier_agent_limit"
    desk.send("DELETE", f"/v1/alerts/configs/{made['id']}")
    assert desk.ingest(event(**NOW)).status_code == 202
