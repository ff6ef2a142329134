"""`/v1/dashboard`: overview, series and rankings, field for field as in the AgentKavach reference."""

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.directory.organisations import Quotas
from bursar.identity.keys import Scope
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database

REFERENCE = {
    "total_spend_today": 12.45,
    "total_spend_week": 67.23,
    "total_spend_month": 234.56,
    "events_today": 1250,
    "events_week": 8430,
    "events_month": 31200,
    "tier": "pro",
    "active_agents_today": 5,
    "active_agents_week": 7,
    "active_agents_month": 12,
    "events_per_day": 10000,
    "max_agents": 100,
    "input_tokens_today": 500000,
    "output_tokens_today": 150000,
    "duration_ms_today": 345000,
    "org_budget_limit": 50.0,
    "org_budget_used": 23.45,
    "org_budget_pct": 46.9,
    "org_budget_period": "daily",
}
UNLIMITED = {"events_per_day", "max_agents"}


def call(at: int, cost: str = "0.25", agent: str = "research-bot", **fields: object) -> dict[str, object]:
    return event(
        agent_name=agent, cost=float(cost), timestamp=text_from_micros(at), duration_ms=100, **fields
    )


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        opened.now = NOW + 9 * MICROS_PER_HOUR  # Monday, 2026-03-02T09:00:00Z
        yield opened


def asked(desk: Desk, page: str, **params: str) -> dict[str, object]:
    found = desk.get(f"/v1/dashboard/{page}", **params)
    assert found.status_code == 200, found.text
    body: dict[str, object] = json.loads(found.text, parse_float=Decimal)
    return body


def test_the_overview_has_every_field_of_the_reference_with_its_type(desk: Desk) -> None:
    desk.post("/v1/budgets", {"limit": "1", "name": "all"})
    desk.ingest(call(desk.now))
    body = desk.get("/v1/dashboard/overview").json()
    for name, value in REFERENCE.items():
        assert type(body[name]) is (type(None) if name in UNLIMITED else type(value)), name


def test_the_overview_counts_by_day_iso_week_and_calendar_month(desk: Desk) -> None:
    desk.ingest(
        call(desk.now, "0.1"),
        call(desk.now - MICROS_PER_DAY, "0.02", agent="sunday-bot"),
        call(desk.now - 3 * MICROS_PER_DAY, "0.003", agent="february-bot"),
    )
    body = asked(desk, "overview")
    spend = [str(body[f"total_spend_{period}"]) for period in ("today", "week", "month")]
    assert spend == ["0.10", "0.10", "0.12"]
    assert [body[f"events_{period}"] for period in ("today", "week", "month")] == [1, 1, 2]
    assert [body[f"active_agents_{period}"] for period in ("today", "week", "month")] == [1, 1, 2]
    assert (body["input_tokens_today"], body["output_tokens_today"]) == (1500, 800)
    assert (body["duration_ms_today"], body["org_budget_limit"]) == (100, None)


@pytest.mark.parametrize(
    ("params", "cost", "events", "agents"),
    [
        ({}, "0.10", 1, 1),
        ({"range": "7d"}, "0.123", 3, 3),
        ({"range": "30d"}, "4.123", 4, 3),
        ({"range": "custom", "from_date": "2026-03-01", "to_date": "2026-03-01"}, "0.02", 1, 1),
        ({"range": "custom", "from_date": "2020-01-01", "to_date": "2030-01-01"}, "9.123", 5, 3),
    ],
)
def test_a_range_adds_its_own_sums(
    desk: Desk, params: dict[str, str], cost: str, events: int, agents: int
) -> None:
    desk.ingest(
        call(desk.now, "0.1"),
        call(desk.now - MICROS_PER_DAY, "0.02", agent="sunday-bot"),
        call(desk.now - 3 * MICROS_PER_DAY, "0.003", agent="february-bot"),
        call(desk.now - 20 * MICROS_PER_DAY, "4"),
        call(desk.now - 200 * MICROS_PER_DAY, "5"),
    )
    body = asked(desk, "overview", **params)
    assert (str(body["total_spend_range"]), body["events_range"]) == (cost, events)
    assert body["active_agents_range"] in {agents, agents + 1}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"range": "yesterday"}, "range"),
        ({"range": "custom", "to_date": "2026-03-01"}, "from_date"),
        ({"range": "custom", "from_date": "2026-03-01"}, "to_date"),
        ({"range": "custom", "from_date": "2026-03-02", "to_date": "2026-03-01"}, "from_date"),
        ({"range": "custom", "from_date": "soon", "to_date": "2026-03-01"}, "from_date"),
    ],
)
@pytest.mark.parametrize("page", ["overview", "stats"])
def test_a_range_that_makes_no_sense_is_refused_with_its_field(
    desk: Desk, page: str, params: dict[str, str], field: str
) -> None:
    answer = desk.get(f"/v1/dashboard/{page}", **params)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_the_organisations_budget_is_the_one_nearest_to_its_end(desk: Desk) -> None:
    desk.post("/v1/org/budgets", {"budget_type": "cost", "period": "monthly", "limit_value": 100})
    desk.post("/v1/org/budgets", {"budget_type": "cost", "period": "daily", "limit_value": 0.5})
    desk.post("/v1/org/budgets", {"budget_type": "calls", "period": "daily", "limit_value": 1})
    desk.post(
        "/v1/agents/research-bot/budgets", {"budget_type": "cost", "period": "daily", "limit_value": 0.1}
    )
    desk.ingest(call(desk.now, "0.2345"))
    body = asked(desk, "overview")
    assert [str(body[f"org_budget_{field}"]) for field in ("limit", "used", "pct", "period")] == [
        "0.50",
        "0.2345",
        "46.9",
        "daily",
    ]


def test_quotas_of_the_plan_are_shown(desk: Desk) -> None:
    quotas = {"plan": "pro", "quotas": Quotas(events_per_day=10_000, max_agents=100)}
    desk.run(desk.treasury.organisations.change(desk.org, quotas, at=desk.now, actor="operator"))
    body = asked(desk, "overview")
    assert (body["tier"], body["events_per_day"], body["max_agents"]) == ("pro", 10_000, 100)


def test_a_total_beyond_64_bits_is_given_exactly(desk: Desk) -> None:
    most = 9_223_372_036.0
    for n in range(3):  # each in a roll-up row of its own, as none holds more than 64 bits
        desk.ingest(call(desk.now - n * MICROS_PER_HOUR, str(most), agent=f"bot-{n}"))
    assert str(asked(desk, "overview")["total_spend_today"]) == "27670116108.00"
    assert str(asked(desk, "stats")["total"]["cost"]) == "27670116108.00"  # type: ignore[index]


def test_hourly_spend_has_no_holes_and_ends_with_the_present_hour(desk: Desk) -> None:
    desk.ingest(call(desk.now, "0.5"), call(desk.now - 25 * MICROS_PER_HOUR, "0.25"), call(NOW - 10**13))
    body = asked(desk, "spend", days="2")
    series = body["series"]
    assert isinstance(series, list)
    assert len(series) == 48
    assert (series[-1]["timestamp"], str(series[-1]["cost"])) == ("2026-03-02T09:00:00Z", "0.50")
    assert [point["events"] for point in series if point["events"]] == [1, 1]
    assert (str(series[22]["cost"]), series[22]["timestamp"]) == ("0.25", "2026-03-01T08:00:00Z")
    assert (body["granularity"], body["days"]) == ("hourly", 2)


def test_daily_spend_follows_the_zones_days(desk: Desk) -> None:
    desk.send("PUT", "/v1/settings", json={"timezone": "Asia/Kolkata"})
    midnight = NOW + 18 * MICROS_PER_HOUR + 30 * MICROS_PER_MINUTE - MICROS_PER_DAY
    desk.ingest(call(midnight - 1, "0.1"), call(midnight, "0.02"))
    series = asked(desk, "spend", granularity="daily", days="3")["series"]
    assert isinstance(series, list)
    assert [(point["period"], str(point["cost"])) for point in series] == [
        ("2026-02-28", "0.00"),
        ("2026-03-01", "0.10"),
        ("2026-03-02", "0.02"),
    ]
    assert series[1]["timestamp"] == "2026-02-28T18:30:00Z"


def test_ninety_days_by_the_hour_are_whole(desk: Desk) -> None:
    series = asked(desk, "spend", days="90")["series"]
    assert isinstance(series, list)
    assert len(series) == 90 * 24
    defaults = asked(desk, "spend")
    assert (defaults["granularity"], defaults["days"]) == ("hourly", 7)


@pytest.mark.parametrize("params", [{"days": "0"}, {"days": "91"}, {"granularity": "weekly"}])
def test_a_series_that_makes_no_sense_is_refused(desk: Desk, params: dict[str, str]) -> None:
    answer = desk.get("/v1/dashboard/spend", **params)
    assert (answer.status_code, answer.json()["field"]) == (422, *params)[:2]


def test_the_dearest_models_and_agents_come_first(desk: Desk) -> None:
    desk.ingest(
        call(desk.now, "1", model="o3"),
        call(desk.now, "2", agent="neighbour"),
        call(desk.now - MICROS_PER_DAY, "5", agent="sunday-bot", provider="anthropic", model="claude-x"),
        call(desk.now - 40 * MICROS_PER_DAY, "9"),
    )
    body = asked(desk, "stats", range="7d")
    models, agents = body["top_models"], body["top_agents"]
    assert isinstance(models, list)
    assert isinstance(agents, list)
    assert [(one["model"], one["provider"], str(one["cost"]), str(one["cost_pct"])) for one in models] == [
        ("claude-x", "anthropic", "5.00", "62.5"),
        ("gpt-4o", "openai", "2.00", "25.0"),
        ("o3", "openai", "1.00", "12.5"),
    ]
    assert [(one["agent_name"], one["events"]) for one in agents] == [
        ("sunday-bot", 1),
        ("neighbour", 1),
        ("research-bot", 1),
    ]
    today = asked(desk, "stats", limit="1")
    assert [one["agent_name"] for one in today["top_agents"]] == ["neighbour"]  # type: ignore[attr-defined]


def test_an_empty_organisation_has_zeros_and_no_rankings(desk: Desk) -> None:
    body = asked(desk, "overview")
    assert {body[name] for name in REFERENCE if name.startswith(("total", "events_t", "active"))} == {0}
    stats = asked(desk, "stats")
    assert (stats["top_models"], stats["top_agents"]) == ([], [])


def test_bound_keys_see_their_own_series_and_no_overview(desk: Desk) -> None:
    desk.ingest(call(desk.now, "1"), call(desk.now, "2", agent="neighbour"))
    bound = desk.new_key(Scope.READ, agent="neighbour")
    assert desk.get("/v1/dashboard/overview", key=bound).status_code == 403
    assert desk.get("/v1/dashboard/stats", key=bound).status_code == 403
    assert desk.get("/v1/dashboard/spend", key=bound).json()["total"]["cost"] == 2
    writer = desk.new_key(Scope.INGEST)
    for page in ("overview", "spend", "stats"):
        assert desk.get(f"/v1/dashboard/{page}", key=writer).status_code == 403
        assert desk.get(f"/v1/dashboard/{page}", key="").status_code == 401
