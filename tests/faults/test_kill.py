"""`kill -9` in the middle of batches and holds: nothing acknowledged is lost, nothing counts twice.

Short form: five kills on each engine. Long form (`make faults`): two hundred; a fifth of all
kills falls into the server's start. `BURSAR_TEST_KILLS` says how many, `BURSAR_TEST_SEED` where.
"""

import os
import random
import signal
import subprocess
import time

import pytest

from support.engines import Database
from support.server import PROGRAM, environment, running_server
from support.spenders import CENT, Clients, budgeted

KILLS = int(os.environ.get("BURSAR_TEST_KILLS", "200" if os.environ.get("BURSAR_TEST_LONG") == "1" else "5"))
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261124"))
LIMIT = KILLS * 5 * CENT
"""So little that some holds are refused."""

pytestmark = pytest.mark.long


def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(database: Database) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    url = ""
    print(f"seed {SEED}")  # noqa: T201 - to repeat it by
    with running_server(database.folder, **database.environment) as server:
        budgeted(server, LIMIT)
        clients = Clients(lambda: url, server.token, SEED, limit=LIMIT)
    starts_s: list[float] = []
    with clients:
        for number in range(KILLS):
            if number % 5 == 4:
                _kill_while_it_starts(database, after_s=chance.uniform(0.02, 1.2))
                continue
            begun = time.monotonic()
            with running_server(database.folder, **database.environment) as server:
                starts_s.append(time.monotonic() - begun)
                clients.check(database)
                url = server.base_url
                # The random moment counts from the first answer: before it there is nothing to lose.
                clients.wait_for(1)
                time.sleep(chance.uniform(0, 0.4))
                server.kill9()
                url = ""
    with running_server(database.folder, **database.environment) as server:
        clients.check(database)
        clients.finish(server)
    said = clients.agree(database)
    assert set(clients.statuses) <= {200, 201, 202, 402, 409}
    starts_s.sort()
    print(  # noqa: T201 - the figures of the reliability page
        f"{database.kind}, {KILLS} kills: {said}; from start to listening"
        f" median {starts_s[len(starts_s) // 2]:.2f} s, most {starts_s[-1]:.2f} s"
    )


def test_an_orderly_end_in_the_middle_of_it_loses_nothing_either(database: Database) -> None:
    with running_server(database.folder, **database.environment) as server:
        budgeted(server, LIMIT)
        with Clients(lambda: server.base_url, server.token, SEED, limit=LIMIT) as clients:
            clients.wait_for(20)
            assert server.stop() == 0
    assert set(clients.statuses) <= {200, 201, 202, 402, 409, 429, 503}
    with running_server(database.folder, **database.environment) as server:
        clients.check(database)
        clients.finish(server)
    clients.agree(database)


def _kill_while_it_starts(database: Database, *, after_s: float) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", "--data-dir", str(database.folder)],
        env=environment(dict(database.environment)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
