"""PostgreSQL stopped in the middle of batches and holds, and its back-ends ended at random.

Short form: three immediate stops and thirty back-ends. Long form (`make faults`): fifty and five hundred;
`BURSAR_TEST_STOPS` and `BURSAR_TEST_ENDED` say how many, `BURSAR_TEST_SEED` when.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lost import OwnDatabase, OwnServer, own_server
from support.server import running_server
from support.spenders import CENT, Clients, budgeted

LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
STOPS = int(os.environ.get("BURSAR_TEST_STOPS", "50" if LONG else "3"))
ENDED = int(os.environ.get("BURSAR_TEST_ENDED", "500" if LONG else "30"))
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
BACK_S = 3.0
TOLD_S = 5.0
WORKING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bursar' ORDER BY pid"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server("restarts") as server:
        yield server


@pytest.fixture
def database(own: OwnServer, tmp_path: Path) -> Iterator[OwnDatabase]:
    made = OwnDatabase(tmp_path / "data", own.service)
    made.rows("DROP SCHEMA IF EXISTS bursar CASCADE")
    yield made
    made.drop()


def test_a_database_that_dies_again_and_again_costs_nobody_anything(
    own: OwnServer, database: OwnDatabase
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    limit = STOPS * 20 * CENT
    back_s = []
    with running_server(database.folder, **database.environment) as server:
        budgeted(server, limit)
        with Clients(lambda: server.base_url, server.token, SEED, limit=limit) as clients:
            for _ in range(STOPS):
                clients.wait_for(30)
                time.sleep(chance.uniform(0, 0.3))
                own.lose("immediate")
                time.sleep(chance.uniform(0, 1.0))
                own.give_back()
                begun = time.monotonic()
                clients.wait_for(1)
                back_s.append(time.monotonic() - begun)
                clients.check(database)
        clients.finish(server)
    said = clients.agree(database)
    print(  # noqa: T201 - the figures of the reliability page
        f"seed {SEED}, {STOPS} immediate stops: {said};"
        f" back after {sorted(back_s)[len(back_s) // 2]:.2f} s, at most {max(back_s):.2f} s"
    )
    assert_told_right(clients, database)
    assert max(back_s) < BACK_S


def test_back_ends_that_are_ended_at_random_cost_nobody_anything(database: OwnDatabase) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    limit = ENDED * 2 * CENT
    ended = 0
    with running_server(database.folder, **database.environment) as server:
        budgeted(server, limit)
        with Clients(lambda: server.base_url, server.token, SEED, limit=limit) as clients:
            clients.wait_for(30)
            while ended < ENDED:
                # Mostly one that is in the middle of a transaction, when there is one.
                [*busy] = database.rows(f"{WORKING}".replace("ORDER", "AND state <> 'idle' ORDER"))
                found = busy if busy and chance.random() < 0.8 else database.rows(WORKING)
                if found:
                    [(is_ended,)] = database.rows("SELECT pg_terminate_backend(?)", chance.choice(found)[0])
                    ended += is_ended
                time.sleep(chance.uniform(0, 0.1))
            clients.wait_for(30)
        clients.check(database)
        clients.finish(server)
    print(f"seed {SEED}, {ended} back-ends ended: {clients.agree(database)}")  # noqa: T201
    assert_told_right(clients, database)


def assert_told_right(clients: Clients, database: OwnDatabase) -> None:
    """Clients heard in time to come again, and the log is free of traces."""
    assert set(clients.statuses) <= {200, 201, 202, 402, 409, 429, 503}
    for told in clients.told:
        if told.status in {429, 503}:
            assert told.status == (429 if told.path == "/v1/ingest" else 503), told
            assert told.took_s < TOLD_S, told
    log = database.folder.with_suffix(".log").read_text()
    assert "Traceback" not in log
    assert "request_failed" not in log
