"""Where other products' budgets broke, over HTTP and on the file, each with the opposite result here.

The same failures in the decisions alone are in `tests/budgets/test_peers.py`; a full disk at the doors of
ingest is in `tests/faults`.
"""

import json
import resource
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "http"))

from holding import ask, budget, figures, held, settle, window

from bursar.wiring import verify_file
from support.desk import Desk, event, open_desk
from support.engines import Database
from support.server import Server, running_server

DAY_S = 86_400
CALL = {"agent": "bot", "model": "gpt-4o"}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def made_at(server: Server, **fields: object) -> str:
    """Make a budget of one dollar for the agent, and return where it is read."""
    body = {"scope": {"agent": "bot"}, "period": "total", "limit": "1.00", **fields}
    return f"/v1/budgets/{server.post('/v1/budgets', body).json()['id']}"


def window_at(server: Server, path: str) -> dict[str, Any]:
    seen: dict[str, Any] = server.get(path).json()["window"]
    return seen


def test_fifty_threads_that_all_ask_before_the_first_ends_stay_within_the_limit(database: Database) -> None:
    """One process of AgentKavach's client, limit 1.00, fifty threads of 0.35: it spent 17.50."""
    with running_server(database) as server:
        path = made_at(server)
        have_all_asked = threading.Barrier(50)
        spent: list[str] = []

        def call() -> None:
            answer = server.post("/v1/holds", {**CALL, "amount_usd": "0.35"})
            have_all_asked.wait(60)
            if answer.status_code == 201:
                hold_id = answer.json()["id"]
                server.post(f"/v1/holds/{hold_id}/settle", {"cost_usd": "0.35"})
                spent.append("0.35")

        threads = [threading.Thread(target=call) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        seen = window_at(server, path)
        assert len(spent) == 2
        assert (seen["settled"], seen["held"], seen["overrun"]) == ("0.70", "0.00", "0.00")


def test_a_restart_forgets_nothing_that_was_spent_or_set_aside(database: Database) -> None:
    """A restart set the counters of AgentKavach's client to zero; Redis came back with an old one."""
    with running_server(database) as server:
        path = made_at(server)
        hold_id = server.post("/v1/holds", {**CALL, "amount_usd": "0.50"}).json()["id"]
        server.post(f"/v1/holds/{hold_id}/settle", {"cost_usd": "0.40"})
        server.post("/v1/holds", {**CALL, "amount_usd": "0.30"})
        server.kill9()
    with running_server(database) as server:
        seen = window_at(server, path)
        assert (seen["settled"], seen["held"], seen["remaining"]) == ("0.40", "0.30", "0.30")
        assert server.post("/v1/holds", {**CALL, "amount_usd": "0.300000001"}).status_code == 402
        assert server.post("/v1/holds", {**CALL, "amount_usd": "0.30"}).status_code == 201


def test_a_full_disk_loses_no_hold_and_the_same_key_is_granted_once_there_is_room(tmp_path: Path) -> None:
    """Langfuse marked an event as seen before its write failed, and skipped its repeats for good."""
    with running_server(tmp_path / "data") as server:
        path = made_at(server)
        kept = server.post("/v1/holds", {**CALL, "amount_usd": "0.40", "idempotency_key": "kept"}).json()
        body = {**CALL, "amount_usd": "0.20", "idempotency_key": "while full"}
        with full_disk(server):
            asked = server.post("/v1/holds", body)
            settled = server.post(f"/v1/holds/{kept['id']}/settle", {"cost_usd": "0.30"})
            assert (asked.status_code, asked.json()["code"]) == (507, "storage_full")
            assert (settled.status_code, settled.json()["code"]) == (507, "storage_full")
            assert window_at(server, path)["held"] == "0.40"
        assert server.post("/v1/holds", body).status_code == 201
        assert server.post(f"/v1/holds/{kept['id']}/settle", {"cost_usd": "0.30"}).status_code == 200
        seen = window_at(server, path)
        assert (seen["settled"], seen["held"]) == ("0.30", "0.20")
    assert verify_file(tmp_path / "data").violations == ()


class full_disk:  # noqa: N801 - reads as what it is: with full_disk(server)
    """No file of the server may grow."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        largest = max(path.stat().st_size for path in self._server.data_dir.iterdir())
        resource.prlimit(self._server.pid, resource.RLIMIT_FSIZE, (largest // 2, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        infinite = resource.RLIM_INFINITY
        resource.prlimit(self._server.pid, resource.RLIMIT_FSIZE, (infinite, infinite))


def test_an_agent_that_a_daily_budget_has_killed_works_again_the_next_day(desk: Desk) -> None:
    """Killed on a daily budget, AgentKavach's client refused the next day with nothing spent."""
    budget(desk, thresholds=[{"at": 1.0, "action": "kill"}])
    settle(desk, held(desk, "1.00"), "1.00")
    refused = ask(desk, "0.01")
    assert (refused.status_code, refused.json()["code"]) == (403, "agent_killed")
    desk.advance(DAY_S)
    assert settle(desk, held(desk, "1.00"), "0.25").status_code == 200


def test_a_thousand_calls_of_an_unknown_model_never_count_as_nothing(desk: Desk) -> None:
    """AgentKavach's client recorded a thousand of them as 0.00."""
    made = budget(desk)
    asked = ask(desk, None, model="nobody-knows-1", usage={"input_tokens": 10, "max_output_tokens": 10})
    assert (asked.status_code, asked.json()["reason"]) == (402, "unknown_price")
    nobody = event(agent_name="bot", model="nobody-knows-1", timestamp="2026-03-02T00:00:00Z")
    assert desk.ingest(*[nobody] * 1_000).status_code == 202
    assert window(desk, made)["unpriced"] == 1_000
    asked = ask(desk, "0.01")
    assert (asked.status_code, asked.json()["reason"]) == (402, "unpriced_spend")


def test_a_hundred_thousand_equal_calls_add_up_to_the_last_digit(desk: Desk) -> None:
    """Summed as floats they were off by 5 × 10⁻¹⁴ in AgentKavach's client."""
    made = budget(desk, "1000.00", name="all", scope={}, period="total")
    batch = [event(agent_name="bot", cost=0.0000123, timestamp="2026-03-02T00:00:00Z")] * 1_000
    for _ in range(100):
        assert desk.ingest(*batch).status_code == 202
    assert desk.recorded() == 100_000
    assert window(desk, made)["settled"] == "1.23"
    assert desk.one("SELECT sum(reported_nusd) FROM event") == (100_000 * 12_300,)


@pytest.mark.parametrize("field", ["input_tokens", "cache_read_tokens", "cache_write_1h_tokens"])
def test_a_negative_count_is_refused_at_every_door_and_frees_no_room(desk: Desk, field: str) -> None:
    """LiteLLM took inconsistent cache counts for negative spend."""
    made = budget(desk)
    hold = held(desk, "0.50")
    answers = [
        ask(desk, None, usage={field: -1, "max_output_tokens": 5}),
        settle(desk, hold, usage={field: -1}),
        desk.ingest(event(agent_name="bot", **{field: -1})),
        desk.post("/v1/events", {"events": [{**CALL, "occurred_at": "2026-03-02T00:00:00Z", field: -1}]}),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 200]
    assert all(field in answer.text for answer in answers)
    assert (answers[-1].json()["recorded"], desk.recorded()) == (0, 0)
    assert figures(desk, made) == ("0.00", "0.50")


def test_more_cached_tokens_than_others_never_make_a_call_cheaper_than_nothing(desk: Desk) -> None:
    made = budget(desk)
    settle(desk, held(desk, "0.50"), usage={"input_tokens": 0, "cache_read_tokens": 100_000})
    assert figures(desk, made) == ("0.125", "0.00")


@pytest.mark.parametrize("limit", ["-1.00", "0", "-0.000000001", "NaN", "Infinity", "1e30"])
def test_a_limit_that_is_none_is_refused_by_name(desk: Desk, limit: str) -> None:
    """LiteLLM took negative budgets."""
    answer = desk.post("/v1/budgets", {"scope": {"agent": "bot"}, "limit": limit})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")
    assert desk.get("/v1/budgets").json()["data"] == []


@pytest.mark.parametrize("column", ["settled", "held", "overrun", "unheld", "lowered", "late", "unpriced"])
def test_the_database_itself_takes_no_negative_count(desk: Desk, column: str) -> None:
    budget(desk)
    held(desk, "0.10")
    for change in (f"UPDATE budget_window SET {column} = -1", "UPDATE budget SET limit_amount = 0"):
        with pytest.raises((sqlite3.IntegrityError, asyncpg.CheckViolationError)):
            desk.database.change(change)


def test_a_call_that_does_not_fit_is_refused_never_cut_in_silence(desk: Desk) -> None:
    """LiteLLM cut a reservation to the room that was left, and let the whole call through."""
    made = budget(desk)
    held(desk, "0.95")
    wish = {"usage": {"input_tokens": 1_000, "max_output_tokens": 16_000}}
    assert ask(desk, None, **wish).status_code == 402
    smaller = held(desk, None, **wish, allow_smaller=True)
    assert smaller["max_output_tokens"] == 4_750
    assert smaller["amount_usd"] == "0.05"
    settle(desk, smaller, usage={"input_tokens": 1_000, "output_tokens": 4_750})
    assert figures(desk, made) == ("0.05", "0.95")


def test_abandoned_reservations_come_back_however_often_clients_die(desk: Desk) -> None:
    """LiteLLM's reservations leaked: refusals with next to nothing spent."""
    made = budget(desk)
    for _ in range(20):
        for _ in range(4):
            held(desk, "0.25", deadline_s=1, grace_s=1)
        assert ask(desk, "0.01").status_code == 402
        desk.advance(3)
        assert figures(desk, made) == ("0.00", "0.00")


def test_a_repeat_after_a_time_out_sets_nothing_aside_twice(desk: Desk) -> None:
    """Time-outs inflated LiteLLM's counters."""
    made = budget(desk)
    for _ in range(10):
        ask(desk, "0.30", "the same call")
    assert figures(desk, made) == ("0.00", "0.30")


def test_an_end_users_budget_is_enforced_whoever_calls_and_however_it_asks(desk: Desk) -> None:
    """An end user's budget was never looked at in LiteLLM: an early return stood before it."""
    made = budget(desk, "0.10", name="user", scope={"user": "u-1"})
    usage = {"input_tokens": 1_000, "max_output_tokens": 9_000}
    ways: list[tuple[str | None, dict[str, object]]] = [
        ("0.11", {}),
        ("0.11", {"agent": "other", "project": "p", "run": "r", "tags": {"a": "b"}}),
        (None, {"usage": usage, "agent": "third"}),
        (None, {"usage": usage | {"max_output_tokens": 9_751}, "allow_smaller": False}),
    ]
    answers = [ask(desk, amount, user="u-1", **fields) for amount, fields in ways]
    assert [answer.status_code for answer in answers] == [402, 402, 201, 402]
    assert answers[0].json()["budget"] == "user"
    assert ask(desk, "0.11", user="u-2").status_code == 201
    assert ask(desk, "0.11").status_code == 201
    settle(desk, answers[2].json(), "0.0925")
    desk.ingest(event(agent_name="bot", user="u-1", cost=0.01, timestamp="2026-03-02T00:00:00Z"))
    seen = window(desk, made)
    assert (seen["settled"], seen["unheld"]) == ("0.1025", "0.01")
    assert ask(desk, "0.01", user="u-1").status_code == 402


def test_a_new_month_is_a_new_row_and_the_old_one_still_says_what_it_said(desk: Desk) -> None:
    """Resets wiped LiteLLM's counters: the database's but not the cache's, or the other way round."""
    made = budget(desk, "1.00", period="monthly")
    settle(desk, held(desk, "0.90"), "0.90")
    desk.advance(31 * DAY_S)
    settle(desk, held(desk, "0.80"), "0.70")
    desk.ingest(event(agent_name="bot", cost=0.05, timestamp="2026-03-20T00:00:00Z"))  # told late
    desk.advance(DAY_S)
    path = f"/v1/budgets/{made['id']}/windows"
    new, old = desk.get(path).json()["data"]
    assert (new["starts_at"], new["settled"], new["late"]) == ("2026-04-01T00:00:00Z", "0.70", "0.00")
    assert (old["starts_at"], old["settled"], old["late"]) == ("2026-03-01T00:00:00Z", "0.95", "0.05")
    assert old["state"] == "closed"


def test_a_budget_without_an_end_is_never_reset(desk: Desk) -> None:
    """LiteLLM's job wiped fresh spend where the time of the reset was null."""
    made = budget(desk, period="total")
    settle(desk, held(desk, "0.60"), "0.60")
    for _ in range(5):
        desk.advance(100 * DAY_S)
    assert window(desk, made)["resets_at"] is None
    assert figures(desk, made) == ("0.60", "0.00")
    assert ask(desk, "0.50").status_code == 402


def test_retries_do_not_keep_an_old_period_alive(desk: Desk) -> None:
    """Requests that kept coming kept LiteLLM's used-up month alive in its cache."""
    budget(desk, period="hourly")
    settle(desk, held(desk, "1.00"), "1.00")
    statuses = []
    for _ in range(13):
        statuses.append(ask(desk, "0.10", "again and again").status_code)
        desk.advance(300)
    assert statuses == [402] * 12 + [201]


def test_an_event_whose_names_were_never_seen_is_counted_with_all_others(desk: Desk) -> None:
    """Langfuse dropped events when a look-up came back empty."""
    made = budget(desk, "5.00", name="everything", scope={})
    fresh = [
        event(agent_name=f"a-{n}", model=f"m-{n}", user=f"u-{n}", cost=0.01, timestamp="2026-03-02T00:00:00Z")
        for n in range(200)
    ]
    assert json.loads(desk.ingest(*fresh).content)["accepted"] == 200
    assert window(desk, made)["settled"] == "2.00"
