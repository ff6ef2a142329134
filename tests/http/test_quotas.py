"""Quotas on /v1/ingest: off by default; a day's events, a burst, and how many agents."""

from collections.abc import Iterator

import pytest

from bursar.directory.organisations import Quotas
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database
from support.server import running_server

DAY = 86_400_000_000


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def allow(desk: Desk, **quotas: int) -> None:
    fields = {"quotas": Quotas(**quotas), "plan": "free"}
    desk.run(desk.treasury.organisations.change(desk.org, fields, at=desk.now, actor="operator"))
    desk.treasury.admission.forget(desk.org)


def batch(count: int, **fields: object) -> list[dict[str, object]]:
    return [event(**fields) for _ in range(count)]


def test_without_quotas_nothing_is_refused(desk: Desk) -> None:
    for _ in range(3):
        answer = desk.ingest(*batch(1000))
        assert (answer.status_code, answer.json()["rejected"]) == (202, 0)


def test_a_days_events_are_recorded_up_to_the_quota_and_the_rest_is_rejected(desk: Desk) -> None:
    allow(desk, events_per_day=10)
    assert desk.ingest(*batch(8)).status_code == 202
    answer = desk.ingest(*batch(5))
    body = answer.json()
    assert (answer.status_code, body["reason"], body["code"]) == (429, "daily_limit", "daily_limit")
    assert (body["accepted"], body["rejected"], body["remaining"]) == (2, 3, 0)
    assert body["resume_at"] == "2026-03-03T00:00:00Z"
    assert "retry-after" not in answer.headers, "its client is to stop, not to come again"
    assert desk.ingest(event()).json()["accepted"] == 0
    assert desk.recorded() == 10


def test_a_new_day_begins_at_midnight_of_the_organisations_zone(desk: Desk) -> None:
    allow(desk, events_per_day=1)
    zone = {"zone": "America/New_York"}
    desk.run(desk.treasury.organisations.change(desk.org, zone, at=desk.now, actor="operator"))
    desk.treasury.admission.forget(desk.org)
    assert desk.ingest(event()).status_code == 202
    assert desk.ingest(event()).json()["resume_at"] == "2026-03-02T05:00:00Z"
    desk.now = NOW + 5 * DAY // 24
    assert desk.ingest(event()).status_code == 202


def test_repeats_do_not_use_up_a_quota(desk: Desk) -> None:
    allow(desk, events_per_day=3)
    sent = [event(idempotency_key=f"k{number}") for number in range(2)]
    assert [desk.ingest(*sent).status_code for _ in range(2)] == [202, 429]
    assert desk.ingest(event()).status_code == 202
    assert desk.recorded() == 3


def test_a_restart_goes_on_counting(desk: Desk) -> None:
    allow(desk, events_per_day=5)
    desk.ingest(*batch(4))
    desk.restart()
    body = desk.ingest(*batch(4)).json()
    assert (body["accepted"], body["rejected"]) == (1, 3)


def test_invalid_items_do_not_use_up_a_quota(desk: Desk) -> None:
    allow(desk, events_per_day=2)
    assert desk.ingest(event(input_tokens=-1), event()).status_code == 422
    assert desk.ingest(event()).status_code == 202
    assert desk.recorded() == 2


def test_an_operator_may_have_what_is_beyond_recorded_all_the_same(database: Database) -> None:
    with running_server(database, BURSAR_RECORD_BEYOND_QUOTA="true") as server:
        (organisation,) = server.get("/v1/organisations").json()["data"]
        path = f"/v1/organisations/{organisation['id']}"
        changed = server.request("PATCH", path, json={"events_per_day": 1})
        assert changed.status_code == 200, changed.text
        body = server.post("/v1/ingest", {"events": batch(3)}, key=server.ingest_key).json()
        assert (body["reason"], body["accepted"], body["rejected"]) == ("daily_limit", 3, 0)
        assert len(server.get("/v1/events").json()["data"]) == 3


def test_a_burst_is_to_come_again_and_nothing_of_it_is_kept(desk: Desk) -> None:
    allow(desk, burst_per_s=10)
    assert desk.ingest(*batch(10)).status_code == 202
    answer = desk.ingest(*batch(10))
    assert (answer.status_code, answer.json()["reason"]) == (429, "burst")
    assert answer.headers["retry-after"] == "1"
    assert desk.recorded() == 10
    desk.now += 1_000_000
    assert desk.ingest(*batch(10)).status_code == 202


def test_a_batch_larger_than_a_second_passes_and_is_paid_for(desk: Desk) -> None:
    allow(desk, burst_per_s=10)
    assert desk.ingest(*batch(50)).status_code == 202
    answer = desk.ingest(event())
    assert answer.status_code == 429
    wait = int(answer.headers["retry-after"])
    assert 4 <= wait <= 5
    desk.now += wait * 1_000_000
    assert desk.ingest(event()).status_code == 202


def test_a_rate_holds_over_time(desk: Desk) -> None:
    allow(desk, burst_per_s=10)
    for _ in range(200):
        desk.ingest(*batch(3))
        desk.now += 50_000
    assert 100 <= desk.recorded() <= 115


def test_new_agents_beyond_the_cap_are_left_out_and_named(desk: Desk) -> None:
    allow(desk, max_agents=2)
    assert desk.ingest(event(agent_name="a"), event(agent_name="b")).status_code == 202
    answer = desk.ingest(event(agent_name="a"), event(agent_name="c"), event(agent_name="c"))
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 1, 2)
    assert body["rejected_agents"] == ["c"]
    assert desk.recorded() == 3
    assert desk.treasury.admission.rejected_agents(desk.org) == ["c"]


def test_a_batch_of_new_agents_alone_is_told_to_stop(desk: Desk) -> None:
    allow(desk, max_agents=1)
    desk.ingest(event(agent_name="a"))
    answer = desk.ingest(event(agent_name="b"), event(agent_name="c"))
    body = answer.json()
    assert (answer.status_code, body["reason"]) == (429, "tier_agent_limit")
    assert "events of others were not recorded" in body["detail"]
    assert (body["tier"], body["max_agents"], body["rejected_agents"]) == ("free", 1, ["b", "c"])
    assert desk.recorded() == 1
    assert ("b",) not in desk.rows("SELECT name FROM agent")


def test_agents_known_before_the_cap_go_on_and_a_raised_cap_lets_the_next_in(desk: Desk) -> None:
    desk.ingest(event(agent_name="a"), event(agent_name="b"), event(agent_name="c"))
    allow(desk, max_agents=1)
    desk.restart()
    assert desk.ingest(event(agent_name="c")).status_code == 202
    assert desk.ingest(event(agent_name="d")).status_code == 429
    allow(desk, max_agents=4)
    assert desk.ingest(event(agent_name="d")).status_code == 202
    assert desk.treasury.admission.rejected_agents(desk.org) == []


def test_a_config_of_one_agent_too_many_is_refused(desk: Desk) -> None:
    allow(desk, max_agents=1)
    assert desk.post("/v1/sync-config", {"agent_name": "a"}).status_code == 200
    answer = desk.post("/v1/sync-config", {"agent_name": "b"})
    assert (answer.status_code, answer.json()["reason"]) == (429, "tier_agent_limit")
    assert desk.post("/v1/sync-config", {"agent_name": "a"}).status_code == 200


def test_quotas_together_count_only_what_is_recorded(desk: Desk) -> None:
    allow(desk, max_agents=1, events_per_day=3)
    assert desk.ingest(event(agent_name="a"), event(agent_name="b"), event(agent_name="a")).status_code == 202
    body = desk.ingest(event(agent_name="b"), event(agent_name="a"), event(agent_name="a")).json()
    assert (body["reason"], body["accepted"], body["rejected"]) == ("daily_limit", 1, 2)
    assert body["rejected_agents"] == ["b"]
    assert desk.recorded() == 3


def test_one_organisations_quota_is_nothing_to_another(desk: Desk) -> None:
    allow(desk, events_per_day=1, burst_per_s=1)
    desk.ingest(event())
    other = desk.new_key(org=desk.organisation("other"))
    for _ in range(3):
        assert desk.ingest(*batch(5), key=other).status_code == 202
    assert desk.violations() == ()


def test_a_stop_by_a_budget_is_told_beside_a_cap(desk: Desk) -> None:
    allow(desk, max_agents=1)
    desk.ingest(event(agent_name="a"))
    desk.post("/v1/agents/a/kill", {})
    answer = desk.ingest(event(agent_name="a"), event(agent_name="b"))
    assert (answer.status_code, answer.json()["cause"]) == (429, "killed")
    assert desk.recorded() == 2
