"""`/v1/agents`: the list and the pages of one agent, field for field as in the AgentKavach reference."""

import json
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import quote

import pytest

from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.identity.keys import Scope
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database

REFERENCE = {
    "agent_name": "research-bot",
    "provider": "openai",
    "model": "gpt-4o",
    "total_events": 15000,
    "total_cost": 120.00,
    "cost_today": 12.50,
    "cost_week": 45.00,
    "cost_month": 120.00,
    "input_tokens_today": 500000,
    "output_tokens_today": 150000,
    "total_input_tokens": 3000000,
    "total_output_tokens": 800000,
    "total_duration_ms": 1500000,
    "range_events": 1200,
    "range_cost": 25.00,
    "budget_limit_usd": 50.00,
    "budget_used_pct": 25.0,
    "status": "active",
    "has_kill_switch": False,
    "last_active": "2026-05-25T14:30:00Z",
}
MONDAY_MORNING = NOW + 9 * MICROS_PER_HOUR
"""2026-03-02T09:00:00Z: the second day of a month, the first of a week."""


def call(at: int, cost: object = "0.25", agent: str = "research-bot", **fields: object) -> dict[str, object]:
    return event(
        agent_name=agent, cost=float(str(cost)), timestamp=text_from_micros(at), duration_ms=100, **fields
    )


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        opened.now = MONDAY_MORNING
        yield opened


def agents(desk: Desk, **params: str) -> list[dict[str, object]]:
    listed = desk.get("/v1/agents", **params)
    assert listed.status_code == 200, listed.text
    found: list[dict[str, object]] = json.loads(listed.text, parse_float=Decimal)["agents"]
    return found


def types_of(body: dict[str, object]) -> dict[str, type]:
    return {name: type(value) for name, value in body.items()}


def test_an_agent_has_every_field_of_the_reference_with_its_type(desk: Desk) -> None:
    desk.ingest(call(desk.now - MICROS_PER_MINUTE))
    desk.post("/v1/budgets", {"scope": {"agent": "research-bot"}, "limit": "1", "name": "own"})
    body = desk.get("/v1/agents").json()
    (agent,) = body["agents"]
    assert types_of({name: agent[name] for name in REFERENCE}) == types_of(REFERENCE)
    assert {name: type(body[name]) for name in ("total", "tier", "timezone", "api_key_prefix")} == {
        "total": int,
        "tier": str,
        "timezone": str,
        "api_key_prefix": str,
    }
    assert (body["total"], body["rejected_agents"], body["timezone"]) == (1, [], "UTC")
    assert desk.key.startswith(body["api_key_prefix"])


def test_spend_is_told_apart_by_day_iso_week_and_calendar_month(desk: Desk) -> None:
    desk.ingest(
        call(desk.now - MICROS_PER_HOUR, "0.1"),  # today, Monday the 2nd
        call(desk.now - MICROS_PER_DAY, "0.02"),  # Sunday the 1st: the week before, the same month
        call(desk.now - 3 * MICROS_PER_DAY, "0.003"),  # February
    )
    (agent,) = agents(desk)
    assert (agent["cost_today"], agent["cost_week"], agent["cost_month"], agent["total_cost"]) == (
        Decimal("0.10"),
        Decimal("0.10"),
        Decimal("0.12"),
        Decimal("0.123"),
    )
    assert (agent["total_events"], agent["total_input_tokens"], agent["input_tokens_today"]) == (
        3,
        4500,
        1500,
    )
    assert (agent["total_output_tokens"], agent["output_tokens_today"]) == (2400, 800)
    assert agent["total_duration_ms"] == 300
    assert agent["last_active"] == text_from_micros(desk.now - MICROS_PER_HOUR)


def test_days_begin_in_the_organisations_zone_also_on_half_hours(desk: Desk) -> None:
    midnight = NOW + 18 * MICROS_PER_HOUR + 30 * MICROS_PER_MINUTE  # 00:00 of the 3rd in Kolkata
    desk.now = midnight + MICROS_PER_MINUTE
    desk.ingest(call(midnight - 1, "0.1"), call(midnight, "0.02"))
    assert desk.send("PUT", "/v1/settings", json={"timezone": "Asia/Kolkata"}).status_code == 200
    (agent,) = agents(desk)
    assert (agent["cost_today"], agent["cost_week"]) == (Decimal("0.02"), Decimal("0.12"))


def test_cached_tokens_are_input_and_reasoning_is_output(desk: Desk) -> None:
    desk.ingest(call(desk.now, cache_read_tokens=7, cache_write_5m_tokens=20, reasoning_tokens=300))
    (agent,) = agents(desk)
    seen = desk.get("/v1/agents/research-bot/events").json()["events"][0]
    assert agent["input_tokens_today"] == agent["total_input_tokens"] == seen["input_tokens"]
    assert agent["output_tokens_today"] == agent["total_output_tokens"] == seen["output_tokens"]
    native = desk.get("/v1/events").json()["data"][0]["usage"]
    assert seen["input_tokens"] == sum(native[name] for name in native if "input" in name or "cache" in name)
    assert seen["output_tokens"] == native["output_tokens"] + native["reasoning_tokens"]


def test_a_range_is_exact_and_its_last_day_is_included(desk: Desk) -> None:
    desk.ingest(call(NOW - 1, "0.1"), call(NOW, "0.02"), call(NOW + 1, "0.003"))

    def asked(**params: str) -> tuple[object, object]:
        (agent,) = agents(desk, **params)
        return agent["range_events"], agent["range_cost"]

    assert asked() == (2, Decimal("0.023"))
    assert asked(start="2026-03-01", end="2026-03-01") == (1, Decimal("0.10"))
    assert asked(start="2026-03-02T00:00:00Z", end="2026-03-02T00:00:00.000001Z") == (1, Decimal("0.02"))
    assert asked(start="2026-03-02T00:00:00.000001Z") == (1, Decimal("0.003"))
    assert asked(end="2026-03-02T00:00:00Z") == (1, Decimal("0.10"))
    assert asked(start="2020-01-01", end="2030-01-01") == (3, Decimal("0.123"))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "2026-05-25T14:30:00"}, "end"),
        ({"start": "2026-03-02", "end": "2026-03-01"}, "start"),
        ({"limit": "0"}, "limit"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_with_its_field(
    desk: Desk, params: dict[str, str], field: str
) -> None:
    answer = desk.get("/v1/agents", **params)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_late_calls_corrections_and_new_prices_are_seen_with_the_next_question(desk: Desk) -> None:
    late = desk.now - MICROS_PER_DAY
    desk.ingest(call(desk.now, "1"), call(late, "2", idempotency_key="one"))
    assert agents(desk)[0]["cost_month"] == 3
    desk.ingest(call(late, "0.5"))
    assert agents(desk)[0]["cost_month"] == Decimal("3.50")
    desk.ingest(call(late, "4", idempotency_key="one", revision=1))
    assert agents(desk)[0]["cost_month"] == Decimal("5.50")
    desk.ingest(call(late, "0", model="nobody-knows-it"))
    (agent,) = agents(desk)
    assert (agent["cost_month"], agent["unpriced_events"]) == (Decimal("5.50"), 1)
    price = {
        "pattern": "nobody-knows-it",
        "per_million": {"input_tokens": "1000", "output_tokens": "0"},
        "valid_from": "2026-01-01T00:00:00Z",
    }
    made = desk.post("/v1/prices", price)
    assert made.status_code == 201, made.text
    repriced = desk.post("/v1/models/reprice", {})
    assert repriced.json()["repriced"] == 1
    assert agents(desk)[0]["cost_month"] == 7


def test_money_has_all_its_digits(desk: Desk) -> None:
    desk.ingest(call(desk.now, "0.000000001"), call(desk.now, "123456.789012345"))
    assert '"total_cost":123456.789012346,' in desk.get("/v1/agents").text


def test_the_model_is_the_one_of_most_calls_in_the_last_hour(desk: Desk) -> None:
    desk.ingest(
        *(call(desk.now - MICROS_PER_DAY, model="gpt-4o-mini") for _ in range(5)),
        call(desk.now, model="o3"),
        *(call(desk.now, provider="anthropic", model="claude-sonnet-4-0") for _ in range(2)),
    )
    (agent,) = agents(desk)
    assert (agent["provider"], agent["model"]) == ("anthropic", "claude-sonnet-4-0")


def test_status_is_active_for_five_minutes_and_then_idle(desk: Desk) -> None:
    desk.ingest(call(desk.now))
    assert agents(desk)[0]["status"] == "active"
    desk.now += 5 * MICROS_PER_MINUTE - 1
    assert agents(desk)[0]["status"] == "active"
    desk.now += 1
    assert agents(desk)[0]["status"] == "idle"


def test_a_stop_comes_before_activity_and_a_kill_before_a_pause(desk: Desk) -> None:
    desk.ingest(call(desk.now), call(desk.now, agent="neighbour"))

    def statuses() -> list[object]:
        return [agent["status"] for agent in agents(desk)]

    assert desk.post("/v1/agents/research-bot/pause", {}).json()["status"] == "paused"
    assert statuses() == ["active", "paused"]
    assert desk.post("/v1/agents/research-bot/kill", {}).json()["status"] == "killed"
    assert statuses() == ["active", "killed"]
    desk.post("/v1/agents/kill-all", {})
    assert statuses() == ["killed", "killed"]
    desk.post("/v1/agents/resume-all", {})
    desk.post("/v1/agents/research-bot/resume", {})
    assert statuses() == ["active", "active"]


def test_a_budget_that_stops_its_agent_shows_in_status_share_and_switch(desk: Desk) -> None:
    stop = [{"at": 1.0, "action": "kill"}]
    desk.post("/v1/budgets", {"scope": {"agent": "research-bot"}, "limit": "2", "thresholds": stop})
    desk.post("/v1/budgets", {"scope": {"agent": "research-bot"}, "limit": "1", "metric": "calls"})
    desk.post("/v1/budgets", {"scope": {"agent": "neighbour"}, "limit": "8", "period": "monthly"})
    desk.ingest(call(desk.now, "0.5"), call(desk.now, "0.5", agent="neighbour"))

    def shown() -> list[tuple[object, ...]]:
        fields = ("status", "budget_limit_usd", "budget_used_pct", "has_kill_switch")
        return [tuple(agent[field] for field in fields) for agent in agents(desk)]

    neighbour = ("active", Decimal("8.00"), Decimal("6.25"), False)
    assert shown() == [neighbour, ("active", Decimal("2.00"), Decimal("25.0"), True)]
    desk.ingest(call(desk.now, "1.5"))
    assert shown() == [neighbour, ("killed", Decimal("2.00"), Decimal("100.0"), True)]
    desk.now += MICROS_PER_DAY
    assert shown()[1][:3] == ("idle", Decimal("2.00"), Decimal("0.0"))


def test_a_budget_of_everybody_stops_everybody(desk: Desk) -> None:
    stop = [{"at": 1.0, "action": "pause"}]
    desk.post("/v1/budgets", {"limit": "1", "thresholds": stop})
    desk.ingest(call(desk.now, "1"), call(desk.now, "0.1", agent="neighbour"))
    seen = [(agent["status"], agent["budget_limit_usd"]) for agent in agents(desk)]
    assert seen == [("paused", None), ("paused", None)]


def test_a_kill_rule_of_a_client_is_a_kill_switch_and_its_agent_is_listed_before_its_first_call(
    desk: Desk,
) -> None:
    synced = {
        "agent_name": "quiet-bot",
        "budgets": [{"budget_type": "tokens_total", "period": "daily", "limit_value": 5, "unit": "tokens"}],
        "alert_configs": [{"channel": "kill", "threshold_pct": 1.0, "budget_type": "cost"}],
        "org_budget": None,
    }
    assert desk.post("/v1/sync-config", synced).status_code == 200
    (agent,) = agents(desk)
    assert (agent["agent_name"], agent["has_kill_switch"], agent["status"]) == ("quiet-bot", True, "idle")
    assert (agent["provider"], agent["last_active"], agent["total_cost"]) == (None, None, 0)
    (config,) = desk.get("/v1/agents/quiet-bot/configs").json()["configs"]
    assert (config["channel"], config["threshold_pct"], config["agent_name"]) == ("kill", 1.0, "quiet-bot")


def test_pages_follow_each_other_by_name(desk: Desk) -> None:
    names = ["Ärger", "a/b", "b", "z z", "ü?&"]
    desk.ingest(*(call(desk.now, agent=name) for name in names))
    seen: list[object] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        body = desk.get("/v1/agents", **params).json()
        seen += [agent["agent_name"] for agent in body["agents"]]
        assert body["total"] == len(names)
        if not body["has_more"]:
            break
        params["cursor"] = body["next_cursor"]
    assert seen == sorted(names)
    for name in names:
        assert desk.get(f"/v1/agents/{quote(name, safe='')}").json()["agent_name"] == name


def test_a_page_of_one_agent_has_periods_models_and_seven_days_without_holes(desk: Desk) -> None:
    desk.ingest(
        call(desk.now, "0.5"),
        call(desk.now - 2 * MICROS_PER_DAY, "0.25", model="o3"),
        call(desk.now - 6 * MICROS_PER_DAY, "0.125", status="error"),
        call(desk.now - 40 * MICROS_PER_DAY, "7"),
        call(desk.now, "9", agent="neighbour"),
    )
    body = json.loads(desk.get("/v1/agents/research-bot").text, parse_float=Decimal)
    spend = {name: use["cost"] for name, use in body["spend"].items()}
    half = Decimal("0.50")
    assert spend == {"today": half, "week": half, "month": half, "total": Decimal("7.875")}
    assert (body["primary_model"], body["primary_provider"], body["errors"]) == ("gpt-4o", "openai", 1)
    models = [(one["model"], one["events"], one["cost"], one["cost_pct"]) for one in body["models"]]
    assert models == [
        ("gpt-4o", 2, Decimal("0.625"), Decimal("71.43")),
        ("o3", 1, Decimal("0.25"), Decimal("28.57")),
    ]
    days = [(day["date"], day["cost"]) for day in body["history"]]
    assert [day for day, _ in days] == [f"2026-02-{n}" for n in (24, 25, 26, 27, 28)] + [
        "2026-03-01",
        "2026-03-02",
    ]
    assert [str(cost) for _, cost in days] == ["0.125", "0.00", "0.00", "0.00", "0.25", "0.00", "0.50"]


def test_half_hour_history_is_exact(desk: Desk) -> None:
    desk.send("PUT", "/v1/settings", json={"timezone": "Asia/Kolkata"})
    midnight = NOW - 5 * MICROS_PER_HOUR - 30 * MICROS_PER_MINUTE  # where the 2nd begins in Kolkata
    key = {"idempotency_key": "corrected"}
    desk.ingest(call(midnight - 1, "0.1"), call(midnight, "0.02"), call(midnight - 1, "5", **key))
    desk.ingest(call(midnight - 1, "0.003", revision=1, **key), call(midnight, "9", agent="neighbour"))
    history = desk.get("/v1/agents/research-bot").json()["history"]
    assert [(day["date"], day["cost"], day["events"]) for day in history[-3:]] == [
        ("2026-02-28", 0, 0),
        ("2026-03-01", 0.103, 2),
        ("2026-03-02", 0.02, 1),
    ]


@pytest.mark.parametrize("page", ["", "/events", "/alerts", "/configs", "/budgets", "/runs"])
def test_an_unknown_agent_is_not_found(desk: Desk, page: str) -> None:
    answer = desk.get(f"/v1/agents/nobody{page}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert isinstance(answer.json()["detail"], str)


def test_events_of_an_agent_come_newest_first_in_the_words_of_ingest(desk: Desk) -> None:
    desk.ingest(
        *(call(desk.now - n * MICROS_PER_HOUR, "0.5", run_id=f"run {n}") for n in range(5)),
        call(desk.now, agent="neighbour"),
    )
    first = desk.get("/v1/agents/research-bot/events", limit="3").json()
    assert first["has_more"]
    second = desk.get("/v1/agents/research-bot/events", limit="3", cursor=first["next_cursor"]).json()
    assert [one["run_id"] for one in first["events"] + second["events"]] == [f"run {n}" for n in range(5)]
    assert not second["has_more"]
    assert first["data"] == first["events"]
    newest = first["events"][0]
    assert {name: newest[name] for name in ("agent_name", "provider", "model", "cost", "status")} == {
        "agent_name": "research-bot",
        "provider": "openai",
        "model": "gpt-4o",
        "cost": 0.5,
        "status": "success",
    }
    assert (newest["timestamp"], newest["duration_ms"]) == (text_from_micros(desk.now), 100)


def test_an_event_without_a_price_costs_null(desk: Desk) -> None:
    desk.ingest(call(desk.now, "0", model="nobody-knows-it"))
    (one,) = desk.get("/v1/agents/research-bot/events").json()["events"]
    assert one["cost"] is None


def test_alerts_of_an_agent_are_those_of_its_budgets(desk: Desk) -> None:
    desk.post("/v1/budgets", {"scope": {"agent": "research-bot"}, "limit": "1"})
    desk.ingest(call(desk.now, "0.9"), call(desk.now, "0.9", agent="neighbour"))
    (alert,) = desk.get("/v1/agents/research-bot/alerts").json()["alerts"]
    assert (alert["agent_name"], alert["threshold_pct"], alert["budget_type"]) == (
        "research-bot",
        0.8,
        "cost",
    )
    assert desk.get("/v1/agents/neighbour/alerts").json()["alerts"] == []


def test_a_budget_of_an_agent_is_made_and_then_changed_by_type_and_period(desk: Desk) -> None:
    desk.ingest(call(desk.now, "0.5"))
    body = {"budget_type": "cost", "period": "daily", "limit_value": 50}
    made = desk.post("/v1/agents/research-bot/budgets", body)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in body} == body
    assert (made.json()["source"], made.json()["scope"]) == ("person", {"agent": "research-bot"})
    again = desk.post("/v1/agents/research-bot/budgets", body | {"limit_value": 0.75})
    assert (again.status_code, again.json()["id"], again.json()["limit_value"]) == (
        200,
        made.json()["id"],
        0.75,
    )
    tokens = {"budget_type": "tokens_total", "period": "total", "limit_value": 5000.0}
    assert desk.post("/v1/agents/research-bot/budgets", tokens).status_code == 201
    listed = desk.get("/v1/agents/research-bot/budgets").json()["budgets"]
    assert {(one["budget_type"], one["period"], one["limit_value"]) for one in listed} == {
        ("cost", "daily", 0.75),
        ("tokens_total", "total", 5000),
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budget_type": "kisses"}, "budget_type"),
        ({"period": "fortnightly"}, "period"),
        ({"limit_value": 0}, "limit_value"),
        ({"limit_value": "many"}, "limit_value"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_with_its_field(
    desk: Desk, change: dict[str, object], field: str
) -> None:
    desk.ingest(call(desk.now))
    body = {"budget_type": "cost", "period": "daily", "limit_value": 50, **change}
    answer = desk.post("/v1/agents/research-bot/budgets", body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert desk.get("/v1/agents/research-bot/budgets").json()["budgets"] == []


def test_who_may_only_read_sets_nothing_and_who_may_only_write_reads_nothing(desk: Desk) -> None:
    desk.ingest(call(desk.now))
    body = {"budget_type": "cost", "period": "daily", "limit_value": 50}
    reader, writer = desk.new_key(Scope.READ), desk.new_key(Scope.INGEST)
    assert desk.post("/v1/agents/research-bot/budgets", body, key=reader).status_code == 403
    for path in ("/v1/agents", "/v1/agents/research-bot", "/v1/agents/research-bot/events"):
        assert desk.get(path, key=reader).status_code == 200
        assert desk.get(path, key=writer).status_code == 403
        assert desk.get(path, key="").status_code == 401


def test_a_key_bound_to_an_agent_sees_that_agent_alone(desk: Desk) -> None:
    desk.ingest(call(desk.now), call(desk.now, agent="neighbour"))
    bound = desk.new_key(Scope.READ, agent="neighbour")
    body = desk.get("/v1/agents", key=bound).json()
    assert ([agent["agent_name"] for agent in body["agents"]], body["total"]) == (["neighbour"], 1)
    assert desk.get("/v1/agents/neighbour", key=bound).status_code == 200
    for page in ("", "/events", "/alerts", "/configs", "/runs"):
        assert desk.get(f"/v1/agents/research-bot{page}", key=bound).status_code == 403
    by_project = desk.new_key(Scope.READ, project="ours")
    assert desk.get("/v1/agents", key=by_project).status_code == 403
