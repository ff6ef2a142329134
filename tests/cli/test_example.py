"""examples/fifty_threads.py, run as docs/enforcement.md says: it stops at exactly the limit."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from support.program import bursar
from support.server import Server, environment, running_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "fifty_threads.py"
SECONDS_MAX = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A first run, in an empty directory."""
    with running_server(tmp_path / "data") as running:
        yield running


def started(server: Server, agent: str) -> "subprocess.Popen[str]":
    """The example with the first run's key, as a newcomer has it in the environment."""
    env = environment({"BURSAR_KEY": server.ingest_key or "", "BURSAR_URL": server.base_url})
    command = [sys.executable, str(EXAMPLE), "--agent", agent]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: "subprocess.Popen[str]") -> list[str]:
    """What it has printed when it is over, the counter's steps left out."""
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, err) == (0, "")
    return [line for line in out.splitlines() if "threads" in line]


def test_fifty_threads_stop_at_exactly_the_limit(server: Server) -> None:
    at = ("--data-dir", server.data_dir)
    made = bursar("budgets", "create", "1", "--agent", "bot", "--name", "bot", *at)
    assert made.code == 0, made.talk
    bill, *refusals = told(started(server, "bot"))
    assert bill == "billed  1.00 USD in  100 calls by 50 threads"
    assert refusals
    for sentence in refusals:
        assert '"bot" of 1.00 USD has no room for 0.01' in sentence
        assert re.search(r"; it resets at \d{4}-\d\d-\d\dT00:00:00Z$", sentence)
    [budget] = bursar("budgets", "list", *at, "--json").document["data"]
    window = budget["window"]
    assert {name: str(window[name]) for name in ("settled", "held", "overrun", "unheld", "late")} == {
        "settled": "1.00", "held": "0.00", "overrun": "0.00", "unheld": "0.00", "late": "0.00",
    }  # fmt: skip
    [cost] = json.loads(server.get("/v1/costs", groupBy="agent").text, parse_float=Decimal)["data"]
    assert (cost["agent"], cost["requests"], cost["totalCost"]) == ("bot", 100, Decimal(1))
    verified = bursar("ledger", "verify", *at)
    assert verified.code == 0, verified.out


def test_a_kill_stops_a_running_agent_at_once(server: Server) -> None:
    process = started(server, "runner")
    assert process.stdout is not None
    next(line for line in process.stdout if "billed" in line and " 0.00 " not in line)
    killed = bursar("agents", "kill", "runner", "--reason", "runs wild", "--data-dir", server.data_dir)
    assert killed.code == 0, killed.talk
    counted = server.get("/v1/holds", agent="runner", limit=1).json()["data"][0]["id"]
    bill, refusal = told(process)
    assert re.search(r"billed +\d+\.\d\d USD in +\d+ calls by 50 threads", bill)
    assert refusal.startswith("50 threads were refused: ")
    assert "killed by a person: runs wild" in refusal
    assert server.get("/v1/holds", agent="runner", limit=1).json()["data"][0]["id"] == counted
