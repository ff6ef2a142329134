"""The background jobs apart from the servers: `bursar jobs`, and `bursar serve --no-jobs`."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

from support.engines import Database
from support.server import PROGRAM, environment, running_server

HOLD = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10", "deadline_s": 1, "grace_s": 0}


class Jobs:
    """A running `bursar jobs`."""

    def __init__(self, process: "subprocess.Popen[str]", printed: str) -> None:
        self.process = process
        self.printed = printed
        found = re.search(r"http://\S+", printed)
        self.url = found[0] if found else ""


@contextmanager
def running_jobs(database: Database) -> Iterator[Jobs]:
    command = [*PROGRAM, "jobs", "--port", "0", "--data-dir", str(database.folder)]
    process = subprocess.Popen(
        command, env=environment(database.environment), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Jobs(process, process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_a_server_without_jobs_leaves_them_to_the_process_that_has_them(shared: Database) -> None:
    with running_server(shared, "--no-jobs", BURSAR_AUDIT_SECONDS="0.5") as server:
        server.post("/v1/budgets", {"name": "all", "limit": "1.00"})
        held = server.post("/v1/holds", HOLD)
        assert held.status_code == 201, held.text

        def state() -> str:
            return str(server.get(f"/v1/holds/{held.json()['id']}").json()["state"])

        time.sleep(4)
        assert state() == "open"
        assert "ledger_audited_timestamp_seconds 0.0" in server.get("/metrics").text
        with running_jobs(shared) as jobs:
            wait_until(lambda: state() != "open")
            assert httpx2.get(f"{jobs.url}/readyz", trust_env=False).json()["ready"] is True
            assert (
                "ledger_audited_timestamp_seconds" in httpx2.get(f"{jobs.url}/metrics", trust_env=False).text
            )
            assert httpx2.get(f"{jobs.url}/v1/organisations", trust_env=False).status_code == 404
            jobs.process.send_signal(signal.SIGTERM)
            assert jobs.process.wait(15) == 0


def test_jobs_of_a_process_that_dies_or_hangs_are_taken_over(shared: Database) -> None:
    with (
        running_server(shared, "--no-jobs") as server,
        running_jobs(shared) as first,
    ):
        server.post("/v1/budgets", {"name": "all", "limit": "1.00"})

        def lapses() -> bool:
            made = server.post("/v1/holds", HOLD)
            assert made.status_code == 201, made.text
            deadline = time.monotonic() + 30
            while server.get(f"/v1/holds/{made.json()['id']}").json()["state"] == "open":
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)
            return True

        assert lapses()
        with running_jobs(shared):
            first.process.kill()
            assert lapses()
        with running_jobs(shared) as hangs, running_jobs(shared):
            assert lapses()
            os.kill(hangs.process.pid, signal.SIGSTOP)
            assert lapses()
            os.kill(hangs.process.pid, signal.SIGCONT)
            assert lapses()
