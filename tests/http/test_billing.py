"""/v1/billing: the plan as data, a pause, and the organisation's end."""

from collections.abc import Iterator

import pytest

from bursar.directory.organisations import Quotas
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def change(desk: Desk, **fields: object) -> None:
    desk.run(desk.treasury.organisations.change(desk.org, fields, at=desk.now, actor="operator"))
    desk.treasury.admission.forget(desk.org)


def test_a_self_hosted_plan_has_no_limits(desk: Desk) -> None:
    plan = desk.get("/v1/billing/plan").json()
    assert (plan["tier"], plan["subscription_status"], plan["trial"]) == ("self_hosted", "active", None)
    assert plan["quotas"] == {"events_per_day": None, "burst_per_s": None, "max_agents": None}


def test_a_plan_that_the_operator_sets_is_shown(desk: Desk) -> None:
    change(desk, plan="pro", quotas=Quotas(events_per_day=10_000, max_agents=100))
    plan = desk.get("/v1/billing/plan").json()
    assert (plan["tier"], plan["events_per_day"], plan["max_agents"]) == ("pro", 10_000, 100)


def test_a_pause_refuses_usage_and_keeps_nothing_until_it_is_resumed(desk: Desk) -> None:
    desk.ingest(event())
    assert desk.post("/v1/billing/pause", {}).json()["subscription_status"] == "paused"
    answer = desk.ingest(event())
    assert answer.status_code == 403
    body = answer.json()
    assert (body["subscription_status"], body["resume_at"]) == ("paused", None)
    assert "paused" in body["detail"]
    assert desk.post("/v1/sync-config", {"agent_name": "bot", "budgets": []}).status_code == 403
    native = {"agent": "bot", "model": "gpt-4o", "input_tokens": 1}
    assert desk.post("/v1/events", native).status_code == 403
    assert desk.post("/v1/track", {"provider": "openai", "model": "gpt-4o"}).status_code == 403
    assert desk.recorded() == 1
    assert desk.get("/v1/events").status_code == 200, "what is there may be read"
    desk.post("/v1/billing/resume", {})
    assert desk.ingest(event()).status_code == 202
    assert desk.recorded() == 2


def test_a_change_that_was_made_elsewhere_is_seen_within_a_second(desk: Desk) -> None:
    desk.ingest(event())
    for status, expected in (("cancelled", 403), ("active", 202)):
        fields = {"subscription_status": type(_organisation_status(desk))(status)}
        desk.run(desk.treasury.organisations.change(desk.org, fields, at=desk.now, actor="operator"))
        desk.now += 1_000_000
        answer = desk.ingest(event())
        assert answer.status_code == expected
        if expected == 403:
            assert answer.json()["subscription_status"] == status


def _organisation_status(desk: Desk) -> object:
    return desk.run(desk.treasury.organisations.get(desk.org)).subscription_status


def test_a_cancelled_subscription_is_not_resumed_by_its_users(desk: Desk) -> None:
    change(desk, subscription_status=type(_organisation_status(desk))("cancelled"))
    for verb in ("pause", "resume"):
        assert desk.post(f"/v1/billing/{verb}", {}).status_code == 409


@pytest.mark.parametrize(
    ("method", "name"),
    [("POST", one) for one in (
        "checkout", "portal", "confirm-payment", "change-tier", "cancel", "reactivate", "toggle-auto-renew",
        "webhook",
    )] + [("GET", "payments")],
)  # fmt: skip
def test_what_needs_a_payment_provider_says_that_there_is_none(desk: Desk, method: str, name: str) -> None:
    answer = desk.send(method, f"/v1/billing/{name}")
    assert (answer.status_code, answer.json()["code"]) == (501, "billing_not_configured")
    assert answer.json()["title"] == "Not Implemented"
    expected = 501 if name == "webhook" else 401
    assert desk.send(method, f"/v1/billing/{name}", key="").status_code == expected


def test_an_organisation_is_deleted_softly_and_can_be_restored(desk: Desk) -> None:
    desk.ingest(event())
    operator = desk.treasury.operator_token
    headers = {"X-Bursar-Org": "first"}
    answer = desk.send("DELETE", "/v1/billing/delete-organization", key=operator, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "deleted")
    assert "restore" in answer.json()
    for path in ("/v1/events", "/v1/billing/plan", "/v1/budgets"):
        refused = desk.get(path)
        assert refused.status_code == 403
        assert "bursar orgs restore" in refused.json()["detail"]
    assert desk.ingest(event()).status_code == 403
    assert desk.recorded() == 1
    change(desk, deleted_at=None)
    desk.treasury.authenticator.forget()
    assert desk.ingest(event()).status_code == 202


def test_who_may(desk: Desk) -> None:
    reader = desk.new_key(Scope.READ)
    assert desk.get("/v1/billing/plan", key=reader).status_code == 200
    for verb in ("pause", "resume"):
        assert desk.post(f"/v1/billing/{verb}", {}, key=reader).status_code == 403
    bound = desk.new_key(Scope.ADMIN, agent="bot")
    assert desk.post("/v1/billing/pause", {}, key=bound).status_code == 403
    assert desk.send("DELETE", "/v1/billing/delete-organization").status_code == 403, "a key is no owner"
    assert desk.ingest(event()).status_code == 202
