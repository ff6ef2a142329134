"""POST /v1/leases, /report and /return over the whole app: answers, repeats, refusals, bad bodies."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from bursar.identity.keys import Scope
from support.desk import Desk, open_desk
from support.doors import Door, throw
from support.engines import Database
from support.hostile import mutated

SEED = 20_261_125
MUTATIONS = 10_000 if os.environ.get("BURSAR_TEST_LONG") == "1" else 1_000

ASK = {
    "idempotency_key": "lease-1",
    "instance": "process-1",
    "agent": "research-bot",
    "model": "gpt-4o",
    "wants": {"amount_usd": "0.01"},
    "rate_usd_per_s": "0.10",
}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


@pytest.fixture
def budget(desk: Desk) -> str:
    return made(desk)


def made(desk: Desk, **fields: object) -> str:
    body = {"name": "cap", "scope": {"agent": "research-bot"}, "limit": "1.00", "period": "daily"}
    answer = desk.post("/v1/budgets", body | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def acquired(desk: Desk, **fields: object) -> dict[str, Any]:
    answer = desk.post("/v1/leases", ASK | fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def entry(sequence: int, cost: str = "0.01", **fields: object) -> dict[str, object]:
    return {"sequence": sequence, "idempotency_key": f"call-{sequence}", "cost_usd": cost} | fields


def reported(desk: Desk, lease: dict[str, Any], number: int, *entries: object, **fields: object) -> Any:  # noqa: ANN401
    body = {"instance": "process-1", "report": number, "entries": list(entries)} | fields
    return desk.post(f"/v1/leases/{lease['id']}/report", body)


def window(desk: Desk, budget: str) -> dict[str, Any]:
    return dict(desk.get(f"/v1/budgets/{budget}/windows").json()["data"][0])


def test_a_lease_holds_its_slice_and_tells_how_long(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    assert lease["rest"] == [{"budget_id": budget, "budget": "cap", "metric": "cost", "amount": "0.10"}]
    assert (lease["amount_usd"], lease["ttl_s"], lease["heartbeat_s"]) == ("0.10", 15, 1)
    assert (lease["state"], lease["kind"], lease["stopped"], lease["epoch"]) == ("open", "lease", None, 0)
    assert lease["expires_at"] == "2026-03-02T00:15:15Z"
    assert lease["windows"][0]["held"] == "0.10"
    assert desk.get(f"/v1/holds/{lease['id']}").json()["kind"] == "lease"


def test_the_same_key_gives_the_same_lease_and_another_process_a_conflict(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    again = desk.post("/v1/leases", ASK)
    assert (again.status_code, again.json()["id"]) == (200, lease["id"])
    assert window(desk, budget)["held"] == "0.10"
    other = desk.post("/v1/leases", ASK | {"instance": "process-2"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_a_repeat_tells_of_a_stop_that_came_between(desk: Desk, budget: str) -> None:
    acquired(desk)
    desk.post("/v1/agents/research-bot/pause", {"reason": "look"})
    again = desk.post("/v1/leases", ASK).json()
    assert (again["stopped"]["state"], again["epoch"]) == ("paused", 1)


def test_reports_settle_and_the_answer_has_them_taken_out(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    answer = reported(desk, lease, 1, entry(1), entry(2, "0.005")).json()
    assert (answer["acknowledged"], answer["amount_usd"], answer["renewed"]) == (2, "0.085", False)
    assert (window(desk, budget)["settled"], window(desk, budget)["held"]) == ("0.015", "0.085")
    agents = desk.rows("SELECT count(*), sum(cost_nusd) FROM event WHERE source = 10")
    assert agents == [(2, 15_000_000)]


def test_a_call_by_its_counts_is_priced_here(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    counted = {"usage": {"input_tokens": 1500, "output_tokens": 800}, "cost_usd": None, "duration_ms": 900}
    assert reported(desk, lease, 1, entry(1, **counted)).status_code == 200
    assert window(desk, budget)["settled"] == "0.01175"


def test_doubled_delayed_and_missing_entries_count_once(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    for number, places in ((2, (3, 4)), (1, (1,)), (2, (3, 4)), (3, (1, 2, 3, 4))):
        assert reported(desk, lease, number, *map(entry, places)).status_code == 200
    assert window(desk, budget)["settled"] == "0.04"
    changed = reported(desk, lease, 4, entry(1, "0.02"), entry(5)).json()
    assert (changed["conflicts"], changed["acknowledged"]) == ([1], 5)
    assert window(desk, budget)["settled"] == "0.05"


def test_a_renewal_fills_up_and_a_delayed_one_changes_nothing(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    needs = {"wants": ASK["wants"], "calls_per_s": 10}
    answer = reported(desk, lease, 1, *map(entry, range(1, 6)), needs=needs).json()
    assert (answer["renewed"], answer["amount_usd"], answer["ttl_s"]) == (True, "0.10", 15)
    late = reported(desk, lease, 1, needs=needs, give_back_usd="0.05").json()
    assert (late["renewed"], late["amount_usd"]) == (False, "0.10")


@pytest.mark.parametrize("given", [{"give_back_usd": "0.06"}, {"give_back": {"cost": "0.06", "calls": 1}}])
def test_what_is_given_back_is_free_at_once(desk: Desk, budget: str, given: dict[str, object]) -> None:
    lease = acquired(desk)
    assert reported(desk, lease, 1, **given).json()["amount_usd"] == "0.04"
    assert window(desk, budget)["held"] == "0.04"


def test_a_return_ends_it_and_what_comes_later_is_unheld(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    body = {"instance": "process-1", "report": 1, "entries": [entry(1)]}
    answer = desk.post(f"/v1/leases/{lease['id']}/return", body).json()
    assert (answer["state"], answer["amount_usd"]) == ("settled", "0.00")
    reported(desk, lease, 2, entry(2))
    shown = window(desk, budget)
    assert (shown["settled"], shown["held"], shown["unheld"]) == ("0.02", "0.00", "0.01")


def test_a_second_process_is_refused_and_its_money_recorded(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    answer = reported(desk, lease, 1, entry(1), instance="process-2")
    assert (answer.status_code, answer.json()["code"]) == (409, "lease_shared")
    shown = window(desk, budget)
    assert (shown["settled"], shown["held"], shown["unheld"]) == ("0.01", "0.10", "0.01")
    alerts = desk.rows("SELECT type, agent FROM alert WHERE type = 'lease.two_spenders'")
    assert alerts == [("lease.two_spenders", "research-bot")]


def test_a_kill_is_in_the_next_answer_and_refuses_the_next_lease(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    desk.post("/v1/agents/research-bot/kill", {"reason": "runs away"})
    answer = reported(desk, lease, 1, needs={"wants": ASK["wants"]}).json()
    assert answer["stopped"]["reason"] == "runs away"
    assert (answer["stopped"]["state"], answer["renewed"], answer["epoch"]) == ("killed", False, 1)
    refused = desk.post("/v1/leases", ASK | {"idempotency_key": "lease-2"})
    assert (refused.status_code, refused.json()["code"]) == (403, "agent_killed")


def test_the_last_stretch_of_a_budget_is_for_single_holds(desk: Desk, budget: str) -> None:
    desk.post("/v1/holds", {"agent": "research-bot", "model": "gpt-4o", "amount_usd": "0.985"})
    acquired(desk)
    refused = desk.post("/v1/leases", ASK | {"idempotency_key": "lease-2", "wants": {"amount_usd": "0.004"}})
    assert (refused.status_code, refused.json()["reason"]) == (402, "single_holds_only")
    full = desk.post("/v1/leases", ASK | {"idempotency_key": "lease-3"})
    assert (full.status_code, full.json()["reason"]) == (402, "no_room")
    assert full.json()["budget_id"] == budget


def test_the_more_leases_the_smaller_each(desk: Desk) -> None:
    made(desk, limit="10.00")
    desk.post("/v1/holds", {"agent": "research-bot", "model": "gpt-4o", "amount_usd": "9.00"})
    sizes = [acquired(desk, idempotency_key=f"l{n}", instance=f"process-{n}")["amount_usd"] for n in range(3)]
    assert sizes == ["0.50", "0.125", "0.0625"]


def test_every_metric_has_its_rest_in_proportion(desk: Desk, budget: str) -> None:
    made(desk, metric="calls", limit="1000", name="calls")
    made(desk, metric="tokens_total", limit="1000000", name="tokens")
    wants = {"usage": {"input_tokens": 100, "max_output_tokens": 100}}
    lease = acquired(desk, wants=wants, rate_usd_per_s=None, calls_per_s=1)
    rest = {one["metric"]: one["amount"] for one in lease["rest"]}
    assert (rest["calls"], rest["tokens_total"], rest["cost"]) == ("30", "6000", "0.0375")
    assert lease["max_output_tokens"] == 100


def test_without_a_budget_a_lease_is_only_a_line_for_stops(desk: Desk) -> None:
    lease = acquired(desk)
    assert (lease["rest"], lease["amount_usd"]) == ([], None)
    assert reported(desk, lease, 1, entry(1)).json()["acknowledged"] == 1


def test_a_key_of_another_agent_finds_no_lease(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    bound = desk.new_key(Scope.INGEST, agent="other")
    body = {"instance": "process-1", "report": 1, "entries": [entry(1)]}
    for lease_id in (lease["id"], "lse_" + "0" * 32, "nonsense"):
        assert desk.post(f"/v1/leases/{lease_id}/report", body, key=bound).status_code == 404
    org = desk.organisation("second")
    foreign = desk.new_key(org=org)
    assert desk.post(f"/v1/leases/{lease['id']}/report", body, key=foreign).status_code == 404
    reader = desk.new_key(Scope.READ)
    assert desk.post("/v1/leases", ASK, key=reader).status_code == 403
    assert window(desk, budget)["settled"] == "0.00"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"instance": "short"}, "instance"),
        ({"instance": None}, "instance"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"wants": None}, "wants"),
        ({"wants": {}}, "wants.amount_usd"),
        ({"wants": {"amount_usd": -1}}, "wants.amount_usd"),
        ({"wants": {"usage": {"input_tokens": -1}}}, "wants.usage.input_tokens"),
        ({"wants": {"amount": 1}}, "wants.amount"),
        ({"wants": 5}, "wants"),
        ({"agent": None}, "agent"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 3601}, "ttl_s"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"rate_usd_per_s": "x"}, "rate_usd_per_s"),
        ({"calls_per_s": 1}, "calls_per_s"),
        ({"rate_usd_per_s": None, "calls_per_s": -1}, "calls_per_s"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_bad_request_names_the_field_and_does_nothing(
    desk: Desk, wrong: dict[str, object], field: str
) -> None:
    answer = desk.post("/v1/leases", ASK | wrong)
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
    assert desk.one("SELECT count(*) FROM hold") == (0,)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"report": 0}, "report"),
        ({"report": None}, "report"),
        ({"entries": {}}, "entries"),
        ({"entries": [entry(1)] * 1001}, "entries"),
        ({"entries": [5]}, "entries.0"),
        ({"entries": [entry(1), {"sequence": 2}]}, "entries.1.idempotency_key"),
        ({"entries": [entry(1, "-1")]}, "entries.0.cost_usd"),
        ({"entries": [entry(1, usage={"tokens": 1})]}, "entries.0.usage.tokens"),
        ({"entries": [entry(1, timestamp="now")]}, "entries.0.timestamp"),
        ({"give_back": {"money": 1}}, "give_back.money"),
        ({"give_back": {"calls": -1}}, "give_back.calls"),
        ({"needs": {}}, "wants"),
        ({"needs": {"wants": {"amount_usd": 0}}}, "wants.amount_usd"),
        ({"more": 1}, "more"),
    ],
)
def test_a_bad_report_names_the_field_and_does_nothing(
    desk: Desk, budget: str, wrong: dict[str, object], field: str
) -> None:
    lease = acquired(desk)
    answer = reported(desk, lease, 1, **({"entries": [entry(1)]} | wrong))
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
    assert (desk.recorded(), window(desk, budget)["settled"]) == (0, "0.00")


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b'"x"', b"\xff", b"{" * 5000])
def test_what_is_no_object_is_refused(desk: Desk, body: bytes) -> None:
    lease = acquired(desk)
    for path in ("/v1/leases", f"/v1/leases/{lease['id']}/report"):
        assert desk.send("POST", path, content=body).status_code == 422
    assert desk.post(f"/v1/leases/{lease['id']}/void", {}).status_code == 404


@pytest.mark.long
def test_no_spoiled_body_breaks_a_lease_s_door(desk: Desk, budget: str) -> None:
    lease = acquired(desk)
    wants = {"usage": {"input_tokens": 9, "max_output_tokens": 9}}
    report = {
        "instance": "process-1",
        "report": 1,
        "entries": [entry(1)],
        "give_back": {"cost": "0.01"},
        "needs": {"wants": wants, "calls_per_s": 1.5},
    }
    doors = [Door("POST", "/v1/leases", ASK), Door("POST", f"/v1/leases/{lease['id']}/report", report)]
    for door in doors:
        statuses = {throw(desk, door, body).status for body in mutated([door.valid], SEED, MUTATIONS)}
        assert statuses <= {200, 201, 402, 409, 413, 422}
        assert 422 in statuses
        assert statuses & {200, 201}
