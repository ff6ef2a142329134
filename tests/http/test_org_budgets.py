"""/v1/org/budgets: the reference's words over the organisation's real budgets."""

from collections.abc import Iterator
from typing import Any

import pytest

from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

NOW = {"timestamp": "2026-03-02T00:00:00Z"}
DAILY = {"budget_type": "cost", "period": "daily", "limit_value": 0.05}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def listed(desk: Desk) -> list[dict[str, Any]]:
    body = desk.get("/v1/org/budgets").json()
    assert body["budgets"] == body["data"]
    assert body["total"] == len(body["data"])
    return list(body["budgets"])


@pytest.mark.parametrize(
    "budget_type", ["cost", "tokens_total", "tokens_input", "tokens_output", "calls", "duration"]
)
@pytest.mark.parametrize("period", ["daily", "monthly", "total"])
def test_each_type_and_period_is_made_and_shown(desk: Desk, budget_type: str, period: str) -> None:
    sent = {"budget_type": budget_type, "period": period, "limit_value": 1000}
    made = desk.post("/v1/org/budgets", sent)
    assert made.status_code == 201
    desk.ingest(event(duration_ms=50, **NOW))
    (budget,) = listed(desk)
    used = {
        "cost": 0.01175,
        "tokens_total": 2300,
        "tokens_input": 1500,
        "tokens_output": 800,
        "calls": 1,
        "duration": 50,
    }
    assert {name: budget[name] for name in sent} == sent
    assert budget["current_usage"] == used[budget_type]
    assert budget["usage_pct"] == pytest.approx(used[budget_type] / 10, abs=0.005)


def test_the_same_type_and_period_changes_the_first(desk: Desk) -> None:
    first = desk.post("/v1/org/budgets", DAILY)
    again = desk.post("/v1/org/budgets", DAILY | {"limit_value": 7})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    (budget,) = listed(desk)
    assert budget["limit_value"] == 7
    desk.post("/v1/org/budgets", DAILY | {"period": "monthly"})
    assert len(listed(desk)) == 2


def test_it_is_a_real_budget_that_stops_everybody(desk: Desk) -> None:
    made = desk.post("/v1/org/budgets", DAILY | {"limit_value": 0.02}).json()
    assert desk.get(f"/v1/budgets/{made['id']}").json()["limit"] == "0.02"
    assert desk.ingest(event(**NOW), event(**NOW)).status_code == 202
    answer = desk.ingest(event(agent_name="another", **NOW))
    assert (answer.status_code, answer.json()["reason"]) == (429, "org_budget_exceeded")
    desk.post("/v1/org/budgets", DAILY | {"limit_value": 1})
    assert desk.ingest(event(**NOW)).status_code == 202


def test_a_native_budget_of_the_organisation_is_the_same_thing(desk: Desk) -> None:
    native = desk.post("/v1/budgets", {"limit": "3.5", "period": "daily"}).json()
    desk.post("/v1/budgets", {"limit": "1", "scope": {"agent": "bot"}})
    desk.post("/v1/org/budgets", DAILY)
    (budget,) = listed(desk)
    assert (budget["id"], budget["limit_value"]) == (native["id"], 0.05)


def test_a_limit_is_exact(desk: Desk) -> None:
    made = desk.send(
        "POST",
        "/v1/org/budgets",
        content=b'{"budget_type":"cost","period":"total","limit_value":0.123456789}',
    )
    assert b'"limit_value":0.123456789' in made.content
    assert desk.one("SELECT limit_amount FROM budget") == (123_456_789,)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"limit_value": 0}, "limit_value"),
        ({"limit_value": -0.5}, "limit_value"),
        ({"limit_value": "x"}, "limit_value"),
        ({"limit_value": None}, "limit_value"),
        ({"limit_value": True}, "limit_value"),
        ({"limit_value": 1e300}, "limit_value"),
        ({"budget_type": "loops"}, "budget_type"),
        ({"budget_type": ["cost"]}, "budget_type"),
        ({"period": "weekly"}, "period"),
    ],
)
def test_what_is_wrong_is_named(desk: Desk, sent: dict[str, object], field: str) -> None:
    answer = desk.post("/v1/org/budgets", DAILY | sent)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert listed(desk) == []


def test_one_is_ended_by_its_id(desk: Desk) -> None:
    made = desk.post("/v1/org/budgets", DAILY).json()
    assert desk.send("DELETE", f"/v1/org/budgets/{made['id']}").status_code == 204
    assert listed(desk) == []
    assert desk.send("DELETE", f"/v1/org/budgets/{made['id']}").status_code == 404


def test_an_agents_budget_is_none_of_the_organisations(desk: Desk) -> None:
    agents = desk.post("/v1/budgets", {"limit": "1", "scope": {"agent": "bot"}}).json()
    assert desk.send("DELETE", f"/v1/org/budgets/{agents['id']}").status_code == 404
    assert desk.get(f"/v1/budgets/{agents['id']}").status_code == 200


def test_another_organisations_budget_is_unknown(desk: Desk) -> None:
    made = desk.post("/v1/org/budgets", DAILY).json()
    other = desk.new_key(org=desk.organisation("other"))
    assert desk.send("DELETE", f"/v1/org/budgets/{made['id']}", key=other).status_code == 404
    assert desk.get("/v1/org/budgets", key=other).json()["budgets"] == []
    assert len(listed(desk)) == 1


def test_who_may(desk: Desk) -> None:
    for key, status in (
        (desk.new_key(Scope.READ), 403),
        (desk.new_key(Scope.INGEST), 403),
        (desk.new_key(Scope.ADMIN, agent="bot"), 403),
        (desk.new_key(Scope.BUDGETS), 201),
    ):
        assert desk.post("/v1/org/budgets", DAILY, key=key).status_code == status
    assert desk.get("/v1/org/budgets", key="").status_code == 401
