import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bursar.storage.sqlite.connection import FileLock
from support.program import bursar
from support.server import PROGRAM, Server, environment, running_server

EVENT = {
    "agent_name": "a",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1,
    "output_tokens": 1,
    "cost": 0,
    "timestamp": "2026-01-01T00:00:00Z",
}


def curl_of(server: Server) -> str:
    return next(line.strip() for line in server.greeting.splitlines() if line.strip().startswith("curl "))


def test_the_first_run_prints_a_key_and_one_line_that_records_an_event(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        assert server.greeting.count("ak_local_") == 2  # by itself, and in the line
        done = subprocess.run(["sh", "-c", curl_of(server)], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["accepted"] == 1
        again = subprocess.run(["sh", "-c", curl_of(server)], capture_output=True, text=True, check=True)
        assert again.returncode == 0
    with running_server(tmp_path / "data") as server:
        assert server.ingest_key is None
        line, *owner = server.greeting.splitlines()
        assert server.base_url in line
        assert owner[1].strip().startswith(f"{server.base_url}/v1/auth/first-run?token=first_")


def test_the_address_lies_beside_the_ledger_for_its_owner_only_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "data/server.json"
    with running_server(tmp_path / "data") as server:
        assert json.loads(file.read_text())["url"] == server.base_url
        assert file.stat().st_mode & 0o777 == 0o600
        assert server.stop() == 0
    assert not file.exists()


def test_a_second_server_on_the_same_directory_says_who_is_there(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        second = bursar("serve", "--port", "0", "--data-dir", tmp_path / "data")
        assert second.code == 1
        assert server.base_url in second.talk
        assert "Traceback" not in second.talk


def test_a_taken_port_is_told_before_the_ledger_is_touched(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        port = server.base_url.rpartition(":")[2]
        second = bursar("serve", "--port", port, "--data-dir", tmp_path / "other")
    assert second.code == 1
    assert port in second.talk
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_what_was_answered_is_there_after_any_end(how: str, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        sent = {"events": [{**EVENT, "idempotency_key": "once"}]}
        assert server.post("/v1/ingest", sent, key=server.ingest_key).status_code == 202
        key = server.ingest_key
        getattr(server, how)()
    with running_server(tmp_path / "data") as server:
        answer = server.post("/v1/ingest", sent, key=key)
        assert answer.json()["duplicates"] == 1


def test_help_is_quick_and_needs_no_server(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", shlex.join([sys.executable, "-X", "importtime", "-m", "bursar.cli.main", "--help"])],
        env=environment({}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint(
        {"fastapi", "pydantic", "uvicorn", "httpx2", "sqlite3", "structlog", "bursar.wiring"}
    )


def test_a_server_at_rest_is_small(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        status = Path(f"/proc/{server.pid}/status")
        if not status.exists():
            pytest.skip("needs Linux's /proc")
        resident_kib = next(
            int(line.split()[1]) for line in status.read_text().splitlines() if "VmRSS" in line
        )
    assert resident_kib < 120 * 1024


def test_an_interrupt_ends_a_command_with_130(tmp_path: Path) -> None:
    pipe = tmp_path / "calls.jsonl"
    os.mkfifo(pipe)
    bursar("init", "--data-dir", tmp_path / "data")
    command = [*PROGRAM, "prices", "import", str(pipe), "--data-dir", str(tmp_path / "data")]
    process = subprocess.Popen(command, env=environment({}), stderr=subprocess.PIPE)
    # Opening the other end returns once the command has begun to read.
    with pipe.open("w"):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        _, talk = process.communicate()
    assert b"Traceback" not in talk


def test_the_log_is_json_and_tells_no_credential(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        server.post("/v1/ingest", {"events": []}, key=server.ingest_key)
        token, key = server.token, server.ingest_key
        server.stop()
    log = (tmp_path / "data.log").read_text()
    assert all(json.loads(line)["event"] for line in log.splitlines())
    assert token not in log
    assert str(key) not in log
    shown = subprocess.run(
        [sys.executable, "-c", LOGGING], env=environment({}), capture_output=True, text=True, check=True
    )
    records = [json.loads(line) for line in shown.stderr.splitlines()]
    assert [record["event"] for record in records] == ["ours op_…", "failed", "a library's ak_local_…"]
    assert "said only here" not in shown.stderr
    assert records[0]["headers"] == {"authorization": ["Bearer ak_prod_…"]}


LOGGING = """
import logging, structlog
from bursar.cli.logs import configure_logs
configure_logs("info")
structlog.get_logger().info("ours op_" + "0" * 64, headers={"authorization": ["Bearer ak_prod_" + "f" * 64]})
secret = "said only here"
try:
    raise ValueError("x")
except ValueError:
    structlog.get_logger().exception("failed")
logging.getLogger("some.library").warning("a library's %s", "ak_local_" + "a" * 64)
"""


def test_a_server_waits_for_a_command_that_holds_the_ledger(alone: Path) -> None:
    (alone / "server.json").write_text('{"url": "http://127.0.0.1:1", "pid": 4194303, "started_at": ""}')
    holder = FileLock(alone / "bursar.lock")
    holder.acquire()
    release = threading.Timer(3, holder.release)
    release.start()
    with running_server(alone) as server:
        assert server.get("/healthz").status_code == 200
    release.join()
