"""A process that stands still, or dies, while others work: it harms them for no longer than its time-out."""

import os
import signal
import time
from pathlib import Path

from support.engines import Database
from support.server import Server, running_server
from support.traffic import Traffic
from support.traffic_books import Books

STOPPED_S = 60.0 if os.environ.get("BURSAR_TEST_LONG") == "1" else 10.0
LONGEST_S = 5.0
"""What a lock's wait and the end of an idle transaction allow, and some more for a busy machine."""


def test_a_server_that_is_stopped_in_the_middle_of_its_work_delays_the_others_briefly(
    shared: Database,
) -> None:
    with (
        running_server(shared.folder, **shared.environment) as stopped,
        running_server(shared.folder, **shared.environment) as working,
    ):
        books = Books(shared, working)
        both = Traffic(lambda: stopped.base_url, working.token, clients=6, patience_s=30)
        mine = Traffic(lambda: working.base_url, working.token, clients=3)
        with both, mine:
            both.wait_for(100)
            begun = time.monotonic()
            os.kill(stopped.pid, signal.SIGSTOP)
            time.sleep(STOPPED_S)
            os.kill(stopped.pid, signal.SIGCONT)
            ended = time.monotonic()
            both.wait_for(50)
            mine.wait_for(50)
        meanwhile = [one for one in mine.answers if begun < one.begun < ended]
        assert mine.failures == []
        assert max(one.took_s for one in meanwhile) < LONGEST_S
        assert sum(one.begun > begun + LONGEST_S for one in meanwhile) > 20
        assert both.failures == []
        mine.events += both.events
        books.agree(mine, working)


def test_a_server_that_is_killed_in_the_middle_of_its_work_delays_nobody(shared: Database) -> None:
    with (
        running_server(shared.folder, **shared.environment) as killed,
        running_server(shared.folder, **shared.environment) as working,
    ):
        books = Books(shared, working)
        alive = [killed, working]

        def pick() -> str:
            return alive[0].base_url

        moving = Traffic(pick, working.token, clients=6, patience_s=5)
        mine = Traffic(lambda: working.base_url, working.token, clients=3)
        with moving, mine:
            moving.wait_for(100)
            begun = time.monotonic()
            killed.kill9()
            alive.remove(killed)
            moving.wait_for(50)
            mine.wait_for(50)
        assert (moving.failures, mine.failures) == ([], [])
        assert max(one.took_s for one in mine.answers if one.begun > begun) < LONGEST_S
        mine.events += moving.events
        books.agree(mine, working)


def test_a_worker_that_stands_still_is_replaced(shared: Database) -> None:
    with running_server(shared.folder, "--workers", "2", **shared.environment) as server:
        wait_for_log(server, "workers_serve")
        [*_, last] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(last), signal.SIGSTOP)
        wait_for_log(server, "worker_died")
        for _ in range(20):
            assert server.get("/readyz").status_code == 200


def wait_for_log(server: Server, word: str, seconds: float = 40) -> None:
    log = server.data_dir.with_suffix(".log")
    deadline = time.monotonic() + seconds
    while word not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)
