from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.spending import ask, spend
from support.program import bursar
from support.server import Server, running_server

NO_INCIDENT = "inc_" + "0" * 32


@pytest.fixture
def server(alone: Path) -> Iterator[Server]:
    """One whose budget of a dollar has refused a call once 0.90 were spent."""
    with running_server(alone) as running:
        assert (
            bursar("budgets", "create", "1", "--agent", "bot", "--name", "daily", "--data-dir", alone).code
            == 0
        )
        assert spend(running, "one", "0.90")["state"] == "settled"
        assert ask(running, "two", "0.20")["code"] == "budget_exceeded"
        yield running


def incidents(data_dir: Path, *options: str) -> Any:  # noqa: ANN401 - whatever the command printed
    ran = bursar("incidents", "list", *options, "--data-dir", data_dir, "--json")
    assert ran.code == 0, ran.talk
    return ran.document["data"]


def test_a_raise_lets_calls_go_on_and_is_written_down(server: Server, alone: Path) -> None:
    at = ("--data-dir", alone)
    [incident] = incidents(alone, "--state", "open")
    assert all(word in bursar("incidents", "list", *at).out for word in ("daily", "open", incident["id"]))
    low = bursar("incidents", "raise", incident["id"], "--limit", "0.90", *at)
    assert (low.code, low.out) == (2, "")
    assert "limit" in low.talk
    told = bursar("incidents", "raise", incident["id"], "--limit", "1.50", "--note", "release week", *at)
    assert told.out == "daily: raised to $1.50.\n"
    assert ask(server, "three", "0.60")["state"] == "open"
    assert incidents(alone, "--state", "open") == []
    shown = " ".join(bursar("incidents", "show", incident["id"], *at).out.split())
    assert "raised to $1.50" in shown
    assert shown.endswith("by operator: release week")
    kept = bursar("incidents", "keep", incident["id"], *at)
    assert (kept.code, kept.out) == (1, "")


def test_a_raise_until_a_time_says_until_when(server: Server, alone: Path) -> None:
    [incident] = incidents(alone)
    soon = (datetime.now(UTC) + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    at = ("--data-dir", alone)
    past = bursar("incidents", "raise", incident["id"], "--limit", "2", "--until", "2026-01-01", *at)
    assert past.code == 2
    raised = bursar("incidents", "raise", incident["id"], "--limit", "2", "--until", soon, *at)
    assert raised.out == f"daily: raised to $2.00 until {soon[:16].replace('T', ' ')}.\n"
    [now] = incidents(alone, "--state", "decided")
    assert (now["resolution"], now["until"], now["limit_before"]) == ("raised_until", soon, "1.00")


def test_what_is_kept_stopped_stays_so(alone: Path, server: Server) -> None:
    [incident] = incidents(alone)
    server.stop()
    told = bursar("incidents", "keep", incident["id"], "--note", "tomorrow", "--data-dir", alone)
    assert told.out == "daily: kept stopped.\n"
    again = bursar("incidents", "keep", incident["id"], "--data-dir", alone)
    assert again.code == 0
    shown = bursar("incidents", "show", incident["id"], "--data-dir", alone, "--json").document
    assert [(one["resolution"], one["note"]) for one in shown["approvals"]] == [("kept_stopped", "tomorrow")]
    with running_server(alone) as restarted:
        assert ask(restarted, "late", "0.20")["code"] == "budget_exceeded"


def test_an_unknown_incident_is_none(alone: Path) -> None:
    at = ("--data-dir", alone)
    assert bursar("incidents", "show", NO_INCIDENT, *at).code == 3
    assert bursar("incidents", "raise", NO_INCIDENT, "--limit", "2", *at).code == 3
    assert bursar("incidents", "keep", NO_INCIDENT, *at).code == 3
    assert bursar("incidents", "raise", NO_INCIDENT, *at).code == 2
    assert bursar("incidents", "list", *at).talk == "no incidents\n"
