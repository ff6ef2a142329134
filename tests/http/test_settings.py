"""Settings of an organisation: its name and its zone, by each of the routes that change them."""

from collections.abc import Iterator

import pytest

from bursar.identity.keys import Scope
from support.desk import Desk, open_desk
from support.engines import Database

CHANGING = [("PUT", "/v1/settings"), ("PATCH", "/v1/settings"), ("PUT", "/v1/dashboard/settings")]


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_name_and_zone_are_changed_together_or_alone(desk: Desk, method: str, path: str) -> None:
    before = desk.get("/v1/settings").json()
    assert (before["org_name"], before["timezone"]) == ("first", "UTC")
    both = {"org_name": "Acme", "timezone": "America/New_York"}
    assert desk.send(method, path, json=both).json() == before | both
    assert desk.send(method, path, json={"org_name": "Acme 2"}).json() == before | both | {
        "org_name": "Acme 2"
    }
    zone = {"timezone": "Europe/Berlin", "org_name": None}
    assert desk.send(method, path, json=zone).json()["timezone"] == "Europe/Berlin"
    assert desk.send(method, path, json={}).json() == desk.get("/v1/settings").json()
    assert desk.get("/v1/agents").json()["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": 1}, "timezone"),
        ({"org_name": ""}, "org_name"),
        ({"org_name": "x" * 300}, "org_name"),
        ({"org_name": ["Acme"]}, "org_name"),
        ({"tier": "pro"}, "tier"),
        ({"org_name": "New", "timezone": "EST5"}, "timezone"),
    ],
)
@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_what_makes_no_sense_is_refused_with_its_field_and_changes_nothing(
    desk: Desk, method: str, path: str, body: dict[str, object], field: str
) -> None:
    before = desk.get("/v1/settings").json()
    answer = desk.send(method, path, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert desk.get("/v1/settings").json() == before


def test_a_taken_name_is_a_conflict(desk: Desk) -> None:
    desk.organisation("taken")
    answer = desk.send("PUT", "/v1/settings", json={"org_name": "taken", "timezone": "Europe/Berlin"})
    assert (answer.status_code, answer.json()["field"]) == (409, "org_name")
    assert desk.get("/v1/settings").json()["timezone"] == "UTC"
    assert desk.send("PUT", "/v1/settings", json={"org_name": "first"}).status_code == 200


def test_budgets_keep_the_zone_that_they_were_made_with(desk: Desk) -> None:
    body = {"budget_type": "cost", "period": "daily", "limit_value": 50}
    old = desk.post("/v1/org/budgets", body).json()
    desk.send("PUT", "/v1/settings", json={"timezone": "Asia/Tokyo"})
    assert desk.get(f"/v1/budgets/{old['id']}").json()["window"] == old["window"]
    assert desk.get(f"/v1/budgets/{old['id']}").json()["timezone"] == "UTC"
    new = desk.post("/v1/org/budgets", body | {"period": "monthly"}).json()
    assert new["timezone"] == "Asia/Tokyo"


def test_a_change_is_written_down_with_who_did_it(desk: Desk) -> None:
    desk.send("PUT", "/v1/settings", json={"org_name": "Acme"})
    actor, details = desk.one("SELECT actor, details FROM audit WHERE action = 'organisation.change'")
    assert str(actor).startswith("key:")
    assert "Acme" in str(details)


def test_only_an_administrator_of_the_whole_changes_settings(desk: Desk) -> None:
    reader, bound = desk.new_key(Scope.READ), desk.new_key(Scope.ADMIN, agent="bot")
    assert desk.get("/v1/settings", key=reader).status_code == 200
    for method, path in CHANGING:
        for key, status in ((reader, 403), (bound, 403), ("", 401)):
            assert desk.send(method, path, key=key, json={"org_name": "Mine"}).status_code == status
    assert desk.get("/v1/settings").json()["org_name"] == "first"
