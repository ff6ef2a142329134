"""`bursar serve --workers`: one socket, several processes, looked after by a parent."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from support.engines import Database
from support.program import bursar, cold
from support.server import PROGRAM, Server, environment, running_server
from support.traffic import Traffic
from support.traffic_books import Books

DRAIN = {"BURSAR_DRAIN_SECONDS": "1"}


def workers_of(server: Server) -> list[int]:
    """The processes below the parent that serve."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def all_serving(server: Server, count: int = 2) -> list[int]:
    """Wait until each worker takes requests; return their processes."""
    log = server.data_dir.with_suffix(".log")
    wait_until(lambda: "workers_serve" in log.read_text(), 40)
    found = workers_of(server)
    assert len(found) == count
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_ledger_file_has_one_process(tmp_path: Path) -> None:
    refused = bursar("serve", "--workers", "2", "--port", "0", "--data-dir", tmp_path / "data")
    assert refused.code == 2
    assert "one process writes a ledger file" in refused.talk
    assert "database_url" in refused.talk
    assert not (tmp_path / "data").exists()
    refused = bursar("jobs", "--port", "0", "--data-dir", tmp_path / "data")
    assert refused.code == 2
    assert "bursar serve" in refused.talk


def test_workers_share_a_socket_and_greet_once(shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment) as server:
        assert server.greeting.count("First run") == 1
        assert server.greeting.count("first-run?token=") == 1
        all_serving(server)
        assert server.get("/readyz").status_code == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 10
        assert not (shared.folder / "server.json").exists()
        assert server.printed() == ""


def test_a_worker_that_is_killed_is_started_anew(shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment) as server:
        before = all_serving(server)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(server)) - set(before)) == 1)
        assert before[1] in workers_of(server)
        for _ in range(20):
            assert httpx2.get(f"{server.base_url}/healthz", trust_env=False).status_code == 200


def test_no_worker_outlives_its_parent(shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment) as server:
        left = all_serving(server)
        server.kill9()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_a_restart_of_the_workers_fails_no_request(shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment, **DRAIN) as server:
        before = set(all_serving(server))
        books = Books(shared, server)
        with Traffic(lambda: server.base_url, server.token) as traffic:
            traffic.wait_for(50)
            os.kill(server.pid, signal.SIGHUP)
            wait_until(
                lambda: len(set(workers_of(server)) - before) == 2 and len(workers_of(server)) == 2, 40
            )
            traffic.wait_for(50)
        assert traffic.failures == []
        books.agree(traffic, server)


def test_a_first_worker_that_cannot_begin_tells_it_once_and_ends_all(tmp_path: Path) -> None:
    nowhere = "postgresql://bursar:hidden-word@127.0.0.1:1/nothing"
    refused = cold(
        "serve", "--workers", "3", "--port", "0", "--data-dir", tmp_path / "data", BURSAR_DATABASE_URL=nowhere
    )
    assert refused.code == 6
    assert refused.talk.count("Error:") == 1
    assert "hidden-word" not in refused.talk + refused.out


def test_several_servers_that_begin_together_make_the_first_organisation_once(
    shared: Database, tmp_path: Path
) -> None:
    command = [*PROGRAM, "serve", "--port", "0", "--data-dir", str(shared.folder)]
    started = [
        subprocess.Popen(command, env=environment(shared.environment), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        printed = [process.stdout.readline() for process in started if process.stdout]
        assert sorted("serves on" in line for line in printed) == [False, True, True, True]
        names = shared.rows("SELECT name FROM organisation")
        assert names == [("default",)]
        assert shared.rows("SELECT name FROM api_key") == [("first ingest key",)]
        assert len(list(shared.folder.glob("operator.token*"))) == 1
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_is_told_to_every_worker(number: signal.Signals, shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment) as server:
        left = all_serving(server)
        os.kill(server.pid, number)
        wait_until(lambda: not server.is_running, 15)
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_settings_are_read_anew_for_the_workers_that_come(shared: Database, tmp_path: Path) -> None:
    file = tmp_path / "bursar.toml"
    file.write_text("batch_events_max = 5\n")
    with running_server(
        shared.folder, "--workers", "2", BURSAR_CONFIG=str(file), **shared.environment
    ) as server:
        before = set(all_serving(server))
        body = {"events": [json.loads(EVENT) for _ in range(2)]}
        assert server.post("/v1/ingest", body).status_code == 202
        file.write_text("batch_events_max = 1\n")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: not before & set(workers_of(server)), 40)
        assert server.post("/v1/ingest", body).status_code in {400, 413, 422}


EVENT = json.dumps(
    {
        "agent_name": "a", "provider": "openai", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1,
        "cost": 0, "timestamp": "2026-01-01T00:00:00Z",
    }
)  # fmt: skip
