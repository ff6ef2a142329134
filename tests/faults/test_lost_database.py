"""A database that hangs, dies or is shut down: told within five seconds, nothing lost, back by itself."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from bursar.identity import keys
from bursar.settings import Settings
from support.lost import WAYS, OwnDatabase, OwnServer, own_server
from support.server import Server, running_server

TOLD_S = 5.0
BACK_S = 3.0
BEGUN = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
HEALTH = ("/v1/status", "/readyz", "/healthz")
AWAY_S = 30.0 if os.environ.get("BURSAR_TEST_LONG") == "1" else 6.0
"""How long it is away: longer than any wait of ours, so that every wait ends while it is."""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bursar%'"

CONNECTIONS_MAX = Settings().connections_max


@pytest.fixture(scope="module")
def database() -> Iterator[OwnServer]:
    with own_server("lost") as server:
        yield server


@pytest.fixture
def server(database: OwnServer, tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path / "data", BURSAR_DATABASE_URL=database.address) as running:
        yield running


@pytest.fixture
def caller(server: Server) -> Iterator["Caller"]:
    made = Caller(server)
    yield made
    made.close()


def event(key: str) -> dict[str, object]:
    return {
        "agent_name": "bot", "provider": "openai", "model": "gpt-4o", "input_tokens": 1500,
        "output_tokens": 800, "cost": 0, "timestamp": BEGUN, "idempotency_key": key,
    }  # fmt: skip


class Told(NamedTuple):
    """An answer and how long it took."""

    path: str
    status: int
    took_s: float
    retry_after: str | None
    body: dict[str, object]


class Caller:
    """Asks the server from many threads."""

    def __init__(self, server: Server) -> None:
        self._client = httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False)
        self._token = server.token

    def close(self) -> None:
        self._client.close()

    def ask(self, method: str, path: str, key: str | None = None, **options: object) -> Told:
        headers = {"Authorization": f"Bearer {key or self._token}"}
        begun = time.monotonic()
        answer = self._client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]
        took = time.monotonic() - begun
        return Told(path, answer.status_code, took, answer.headers.get("retry-after"), answer.json())

    def record(self, key: str) -> Told:
        return self.ask("POST", "/v1/ingest", json={"events": [event(key)]})


class Stream:
    """A client that sends one event after the other and each until it is acknowledged."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self.told: list[Told] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            key = uuid.uuid4().hex
            while (told := self._caller.record(key)).status != 202:
                self.told.append(told)
                if self._over.wait(0.1):
                    return
            self.acknowledged.append(key)
            self.told.append(told)
            time.sleep(0.01)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def every_door(caller: Caller, key: str) -> list[Callable[[], Told]]:
    """Requests of each kind, with the key that the server remembers and with one that it has to look up."""
    strange = keys.generate("local")
    hold = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}
    lease = {
        "agent": "bot", "model": "gpt-4o", "instance": "process-1", "wants": {"amount_usd": "0.10"},
        "rate_usd_per_s": "0.01", "idempotency_key": "lease",
    }  # fmt: skip
    track = {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 1}
    login = {"email": "a@example.com", "password": "long enough"}
    reads = ("/v1/costs", "/v1/events", "/v1/budgets", "/v1/quarantine")
    native = {"events": [{"agent": "bot", "provider": "openai", "model": "gpt-4o", "input_tokens": 1}]}
    batch = {"events": [event(uuid.uuid4().hex)]}
    return [
        *(lambda k=k: caller.ask("POST", "/v1/ingest", k, json=batch) for k in (key, strange)),
        *(lambda k=k: caller.ask("POST", "/v1/track", k, json=track) for k in (key, strange)),
        *(lambda k=k: caller.ask("POST", "/v1/holds", k, json=hold) for k in (key, strange)),
        lambda: caller.ask("POST", "/v1/events", key, json=native),
        lambda: caller.ask("POST", "/v1/leases", key, json=lease),
        *(lambda p=p: caller.ask("GET", p, key) for p in reads),
        *(lambda p=p: caller.ask("GET", p) for p in ("/v1/keys", "/v1/organisations")),
        lambda: caller.ask("POST", "/v1/keys", json={"name": "new"}),
        lambda: caller.ask("POST", "/v1/agents/bot/kill", json={}),
        lambda: caller.ask("POST", "/v1/auth/login", json=login),
    ]  # fmt: skip


def is_told_right(told: Told) -> bool:
    """Whether a client learns that it is to come again, in the form that keeps what it has sent."""
    if told.took_s > TOLD_S or told.retry_after is None or not 1 <= int(told.retry_after) <= 10:
        return False
    if told.path in {"/v1/ingest", "/v1/track"}:
        return told.status == 429 and told.body["reason"] == "burst"
    return told.status == 503


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_database_is_told_and_comes_back(
    database: OwnServer, caller: "Caller", tmp_path: Path, way: str
) -> None:
    key = str(caller.ask("POST", "/v1/keys", json={"name": "all", "scopes": ["admin"]}).body["raw_key"])
    assert caller.ask("GET", "/readyz").status == 200
    streams = [Stream(caller) for _ in range(3)]
    time.sleep(0.5)
    with ThreadPoolExecutor(48) as threads:
        caller.ask("GET", "/v1/events", key)
        database.lose(way)
        try:
            lost_at = time.monotonic()
            health = [
                threads.submit(caller.ask, "GET", path) for path in ("/v1/status", "/readyz", "/healthz")
            ]
            doors = [threads.submit(door) for door in every_door(caller, key) for _ in range(2)]
            assert [one.result() for one in doors if not is_told_right(one.result())] == []
            status, ready, alive = (one.result() for one in health)
            assert (status.status, status.body["database"]) == (200, "unavailable")
            assert (ready.status, ready.body["ready"], alive.status) == (503, False, 200)
            assert max(status.took_s, ready.took_s, alive.took_s) < TOLD_S
            # Once more, now that nothing is remembered any more.
            again = [threads.submit(door) for door in every_door(caller, key)]
            assert [one.result() for one in again if not is_told_right(one.result())] == []
            time.sleep(max(0.0, AWAY_S - (time.monotonic() - lost_at)))
        except BaseException:
            for stream in streams:
                stream.end()
            raise
        finally:
            database.give_back()
    back_at = time.monotonic()
    mark = uuid.uuid4().hex
    while caller.record(mark).status != 202:
        assert time.monotonic() - back_at < BACK_S
        time.sleep(0.05)
    assert caller.ask("GET", "/readyz").body["database"] == "ok"
    look = OwnDatabase(tmp_path / "look", database.service)
    [(connections,)] = look.rows(CONNECTIONS)
    look.drop()
    assert connections <= CONNECTIONS_MAX
    assert caller.ask("GET", "/v1/costs", key).status == 200
    for stream in streams:
        stream.end()
    told = [one for stream in streams for one in stream.told]
    assert {one.status for one in told} == {202, 429}
    assert all(is_told_right(one) for one in told if one.status != 202)
    assert max(one.took_s for one in told) < TOLD_S
    assert_nothing_is_lost(caller, key, [mark, *(one for stream in streams for one in stream.acknowledged)])
    assert_log_is_short((tmp_path / "data.log").read_text())


def assert_nothing_is_lost(caller: Caller, key: str, sent: list[str]) -> None:
    """Every acknowledged event is there: sent once more, each is a duplicate."""
    for first in range(0, len(sent), 500):
        some = sent[first : first + 500]
        repeated = caller.ask("POST", "/v1/ingest", key, json={"events": [event(one) for one in some]})
        assert (repeated.status, repeated.body["duplicates"]) == (202, len(some)), repeated.body.get(
            "rejected_items"
        )


def assert_log_is_short(log: str) -> None:
    """The outage is in the log, in a few lines and without a trace."""
    assert "Traceback" not in log
    assert "request_failed" not in log
    lines = log.splitlines()
    assert 0 < len([line for line in lines if "job_waits" in line]) <= 10
    assert len(lines) < 100


def test_a_server_that_is_asked_to_end_meanwhile_ends(database: OwnServer, server: Server) -> None:
    database.lose("paused")
    try:
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 15
    finally:
        database.give_back()


def test_a_connection_that_was_refused_is_told_at_once(database: OwnServer, caller: "Caller") -> None:
    assert caller.record(uuid.uuid4().hex).status == 202
    database.lose("immediate")
    try:
        time.sleep(1)
        for path in ("/v1/status", "/readyz", "/v1/costs"):
            assert caller.ask("GET", path).took_s < 1.0
    finally:
        database.give_back()
