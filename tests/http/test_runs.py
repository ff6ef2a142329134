"""Runs: an agent's, one by its id, its calls, and the cost of all that it started."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from bursar.core.time import MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database


def call(
    at: int, run: str, cost: float = 0.25, agent: str = "research-bot", **fields: object
) -> dict[str, object]:
    return event(
        agent_name=agent, run_id=run, cost=cost, timestamp=text_from_micros(at), duration_ms=100, **fields
    )


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def test_a_run_sums_its_calls(desk: Desk) -> None:
    begin = desk.now - MICROS_PER_HOUR
    desk.ingest(
        call(begin, "run_abc123"), call(begin + 7, "run_abc123", 0.5, status="error"), call(begin, "other")
    )
    run = desk.get("/v1/runs/run_abc123").json()
    assert run == {
        "run_id": "run_abc123",
        "agent_name": "research-bot",
        "status": "completed",
        "started_at": text_from_micros(begin),
        "last_event_at": text_from_micros(begin + 7),
        "ended_at": text_from_micros(begin + 7),
        "total_events": 2,
        "total_cost": 0.75,
        "total_input_tokens": 3000,
        "total_output_tokens": 1600,
        "total_duration_ms": 200,
        "total_unpriced_events": 0,
        "errors": 1,
        "parent_run_id": None,
        "runs_below": 0,
        "tree_events": 2,
        "tree_cost": 0.75,
        "tree_input_tokens": 3000,
        "tree_output_tokens": 1600,
        "tree_duration_ms": 200,
        "tree_unpriced_events": 0,
    }


def test_a_run_is_completed_after_more_than_five_quiet_minutes(desk: Desk) -> None:
    desk.ingest(call(desk.now, "r"))
    desk.now += 5 * MICROS_PER_MINUTE
    running = desk.get("/v1/runs/r").json()
    assert (running["status"], running["ended_at"]) == ("running", None)
    desk.now += 1
    assert desk.get("/v1/runs/r").json()["status"] == "completed"
    desk.ingest(call(desk.now, "r"))
    assert desk.get("/v1/runs/r").json()["status"] == "running"


@pytest.mark.parametrize(
    "run",
    ["3b9c2f61-0000-4000-8000-00000000000a", "a b/c?d#e&f=g%h", "ü→💶", "x" * 256, "events", "run/events/1"],
)
def test_a_run_id_is_any_text(desk: Desk, run: str) -> None:
    desk.ingest(call(desk.now, run), call(desk.now, "another"))
    path = quote(run, safe="")
    assert desk.get(f"/v1/runs/{path}").json()["run_id"] == run
    events = desk.get(f"/v1/runs/{path}/events").json()
    assert (events["run_id"], [one["run_id"] for one in events["events"]]) == (run, [run])
    assert [one["run_id"] for one in desk.get("/v1/agents/research-bot/runs").json()["runs"]].count(run) == 1


def test_a_tree_is_summed_whatever_the_order_in_which_its_runs_are_heard_of(desk: Desk) -> None:
    desk.ingest(call(desk.now, "leaf", 1, parent_run_id="branch", agent="helper"))
    desk.ingest(call(desk.now, "branch", 2, parent_run_id="root"), call(desk.now, "root", 4))
    desk.ingest(call(desk.now, "leaf", 8, parent_run_id="branch", agent="helper"))
    seen = {name: desk.get(f"/v1/runs/{name}").json() for name in ("root", "branch", "leaf")}
    assert {name: (run["total_cost"], run["tree_cost"], run["runs_below"]) for name, run in seen.items()} == {
        "root": (4, 15, 2),
        "branch": (2, 11, 1),
        "leaf": (9, 9, 0),
    }
    assert (seen["leaf"]["parent_run_id"], seen["leaf"]["agent_name"]) == ("branch", "helper")
    assert (seen["branch"]["parent_run_id"], seen["root"]["parent_run_id"]) == ("root", None)


def test_runs_that_name_each_other_as_parents_are_summed_once(desk: Desk) -> None:
    desk.ingest(call(desk.now, "hen", 1, parent_run_id="egg"), call(desk.now, "egg", 2, parent_run_id="hen"))
    for name in ("hen", "egg"):
        run = desk.get(f"/v1/runs/{name}").json()
        assert (run["tree_cost"], run["runs_below"]) == (3, 1)


def test_runs_of_an_agent_come_by_their_last_call_page_by_page(desk: Desk) -> None:
    desk.ingest(
        *(call(desk.now - n * MICROS_PER_MINUTE, f"run-{n}") for n in range(1, 6)),
        call(desk.now - 9 * MICROS_PER_MINUTE, "run-3"),
        call(desk.now, "foreign", agent="neighbour"),
    )
    desk.ingest(call(desk.now, "run-5"))
    seen: list[str] = []
    params = {"limit": "2"}
    for _ in range(3):
        body = desk.get("/v1/agents/research-bot/runs", **params).json()
        seen += [run["run_id"] for run in body["runs"]]
        params["cursor"] = body["next_cursor"] or ""
    assert seen == ["run-5", "run-1", "run-2", "run-3", "run-4"]
    assert (body["has_more"], body["next_cursor"]) == (False, None)


def test_calls_of_a_run_are_paged_newest_first(desk: Desk) -> None:
    desk.ingest(*(call(desk.now - n, "r", float(n)) for n in range(1, 6)))
    first = desk.get("/v1/runs/r/events", limit="3").json()
    second = desk.get("/v1/runs/r/events", limit="3", cursor=first["next_cursor"]).json()
    assert [one["cost"] for one in first["events"] + second["events"]] == [1, 2, 3, 4, 5]
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize(
    "path", ["/v1/runs/none", "/v1/runs/none/events", "/v1/runs/(none)", "/v1/runs/(none)/events"]
)
def test_an_unknown_run_is_not_found(desk: Desk, path: str) -> None:
    desk.ingest(event())
    assert desk.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/v1/runs/r/events", "/v1/agents/research-bot/runs"])
@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "201"}, {"cursor": "next please"}])
def test_a_page_that_makes_no_sense_is_refused_with_its_field(
    desk: Desk, path: str, params: dict[str, str]
) -> None:
    desk.ingest(call(desk.now, "r"))
    answer = desk.get(path, **params)
    assert (answer.status_code, answer.json()["field"]) == (422, next(iter(params)))


def test_a_bound_key_sees_runs_of_its_own_agent_alone(desk: Desk) -> None:
    desk.ingest(call(desk.now, "mine", agent="mine"), call(desk.now, "theirs"))
    bound = desk.new_key(Scope.READ, agent="mine")
    assert desk.get("/v1/runs/mine", key=bound).status_code == 200
    assert desk.get("/v1/runs/mine/events", key=bound).json()["events"][0]["agent_name"] == "mine"
    assert desk.get("/v1/runs/theirs", key=bound).status_code == 404
    assert desk.get("/v1/runs/theirs/events", key=bound).status_code == 404
    assert desk.get("/v1/runs/mine", key=desk.new_key(Scope.READ, project="p")).status_code == 403
    assert desk.get("/v1/runs/mine", key=desk.new_key(Scope.INGEST)).status_code == 403
