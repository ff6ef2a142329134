import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cli.spending import ask, spend
from support.program import bursar
from support.server import PROGRAM, Server, environment, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests; each stops agents of its own and lets them go on."""
    with running_server(tmp_path_factory.mktemp("agents") / "data") as running:
        yield running


def at(server: Server) -> tuple[str, str]:
    return ("--data-dir", str(server.data_dir))


def asked(server: Server, agent: str, amount: str = "0.01", **fields: object) -> str:
    """The state of a new hold, or why it was refused."""
    answer = ask(server, str(uuid4()), amount, agent, **fields)
    return str(answer.get("code") or answer["state"])


def test_a_killed_agent_is_refused_at_once_until_a_person_resumes_it(server: Server) -> None:
    assert asked(server, "wild") == "open"
    told = bursar("agents", "kill", "wild", "--reason", "went wild", *at(server)).out
    assert told.startswith("wild is killed: no hold is granted from now on.\n  1 hold is open")
    assert asked(server, "wild") == "agent_killed"
    assert asked(server, "other") == "open"
    table = bursar("agents", "stopped", *at(server)).out
    assert all(word in table for word in ("agent wild", "killed", "operator", "went wild"))
    assert (
        "wild is killed already" in bursar("agents", "kill", "wild", "--reason", "went wild", *at(server)).out
    )
    assert bursar("agents", "budgets", "wild", *at(server)).out.startswith(
        "wild is killed by operator since "
    )
    assert bursar("agents", "resume", "wild", *at(server)).out == "wild is active: holds are granted again.\n"
    assert "wild is active already" in bursar("agents", "resume", "wild", *at(server)).out
    assert asked(server, "wild") == "open"
    assert bursar("agents", "stopped", *at(server)).talk == "nothing is stopped\n"


def test_a_paused_project_stops_what_is_booked_on_it(server: Server) -> None:
    assert asked(server, "seller", project="shop") == "open"
    paused = bursar("agents", "pause", "shop", "--project", *at(server), "--json").document
    assert (paused["project"], paused["status"]) == ("shop", "paused")
    assert asked(server, "seller", project="shop") == "agent_paused"
    assert asked(server, "seller") == "open"
    resumed = bursar("agents", "resume", "shop", "--project", *at(server), "--json").document
    assert resumed["status"] == "active"
    assert asked(server, "seller", project="shop") == "open"


def test_a_stop_holds_without_a_server_and_after_a_restart(alone: Path) -> None:
    with running_server(alone) as running:
        assert asked(running, "bot") == "open"
    assert bursar("agents", "kill", "bot", "--data-dir", alone).code == 0
    stopped = bursar("agents", "stopped", "--data-dir", alone, "--json").document["data"]
    assert [(gate["name"], gate["status"]) for gate in stopped] == [("bot", "killed")]
    with running_server(alone) as restarted:
        assert asked(restarted, "bot") == "agent_killed"


def test_all_are_stopped_only_by_somebody_who_says_so(server: Server) -> None:
    unasked = bursar("agents", "kill-all", *at(server))
    assert (unasked.code, unasked.out) == (2, "")
    assert "--yes" in unasked.talk
    assert answered("n", server.data_dir) == 1
    assert asked(server, "anybody") == "open"
    assert answered("y", server.data_dir) == 0
    assert asked(server, "anybody") == "agent_killed"
    drill = bursar("agents", "kill-all", "--yes", "--reason", "drill", *at(server), "--json").document
    assert (drill["status"], drill["reason"]) == ("killed", "drill")
    assert asked(server, "somebody new") == "agent_killed"
    assert bursar("agents", "stopped", *at(server)).out.count("organisation") == 1
    resumed = bursar("agents", "resume-all", *at(server)).out
    assert resumed.startswith("every agent (")
    assert "is active" in resumed
    assert asked(server, "anybody") == "open"


def answered(answer: str, data_dir: Path) -> int:
    """Run `kill-all` at a terminal where somebody types `answer`; return its exit code."""
    terminal, its_end = pty.openpty()
    command = [*PROGRAM, "agents", "kill-all", "--data-dir", str(data_dir)]
    process = subprocess.Popen(
        command, env=environment({}), stdin=its_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(its_end)
    os.write(terminal, f"{answer}\n".encode())
    code = process.wait(30)
    os.close(terminal)
    return code


def test_an_agents_budgets_are_those_that_count_its_calls(server: Server) -> None:
    for name, agent in (("its own", "reader"), ("another's", "writer")):
        assert bursar("budgets", "create", "1", "--name", name, "--agent", agent, *at(server)).code == 0
    assert bursar("budgets", "create", "9", "--name", "everybody's", *at(server)).code == 0
    told = bursar("agents", "budgets", "reader", *at(server)).out
    assert told.startswith("reader is active.\n")
    assert "its own" in told
    assert "everybody's" in told
    assert "another's" not in told


def test_what_a_budget_stops_is_listed_and_ended_by_the_budget_only(server: Server) -> None:
    options = ("--agent", "spender", "--name", "guard", "--threshold", "0.5:pause")
    assert bursar("budgets", "create", "1", *options, *at(server)).code == 0
    spend(server, "half", "0.60", "spender")
    assert asked(server, "spender") == "agent_paused"
    table = bursar("agents", "stopped", *at(server)).out
    assert all(word in table for word in ("agent spender", "paused", "budget guard"))
    still = bursar("agents", "resume", "spender", *at(server)).out
    assert still.startswith("spender is still paused, by the budget guard, until ")
    assert bursar("budgets", "set", "guard", "--limit", "10", *at(server)).code == 0
    assert asked(server, "spender") == "open"


def test_an_unknown_agent_is_not_stopped(alone: Path) -> None:
    for command in ("kill", "pause", "resume", "budgets"):
        ran = bursar("agents", command, "nobody", "--data-dir", alone)
        assert (ran.code, ran.out) == (3, "")
        assert "check its spelling" in ran.talk
