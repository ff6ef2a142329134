"""The published AgentKavach client, unmodified, against a real server: we count what it sends, and stop it.

Both versions are told to do the same at the same time, so that their waits (five seconds until a
batch is sent) are one wait.
"""

import http.client
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import pytest
from fake_openai import INPUT_TOKENS, OUTPUT_TOKENS, fake_openai
from published import Client, client_process, python_of

from support.proxy import Proxy
from support.server import Server, running_server

VERSIONS = ("2.1.0", "1.0.2")
FLUSH_S = 5.0
"""How long the client gathers events before it sends them."""
CALL_USD = 0.00075
"""What a call of the fake provider costs by the client's own table."""

Found = TypeVar("Found")
_numbers = count(1)


class Place(NamedTuple):
    """An organisation of its own on the running server, and a folder."""

    server: Server
    provider: str
    folder: Path
    org: str
    key: str
    key_id: str

    def client(self, version: str, home: str = "home", backend: str = "") -> AbstractContextManager[Client]:
        folder = self.folder / f"{home}-{version}"
        return client_process(python_of(version), folder, backend or self.server.base_url, self.provider)

    def get(self, path: str) -> dict[str, Any]:
        return dict(self.server.get(path, org=self.org).json())

    def post(self, path: str) -> dict[str, Any]:
        return dict(self.server.post(path, {}, org=self.org).json())

    def usage(self, agent: str) -> tuple[int, int, int, int]:
        """Return an agent's events, those in error, input and output tokens."""
        connection = sqlite3.connect(self.server.data_dir / "bursar.db")
        try:
            return tuple(
                connection.execute(
                    """SELECT count(*), coalesce(sum(is_error), 0), coalesce(sum(input_tokens), 0),
                        coalesce(sum(output_tokens), 0)
                    FROM event JOIN agent USING (org, agent) JOIN organisation USING (org)
                    WHERE organisation.name = ? AND agent.name = ?""",
                    (self.org, agent),
                ).fetchone()
            )
        finally:
            connection.close()


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with fake_openai() as provider, running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server, provider


@pytest.fixture
def place(around: tuple[Server, str], tmp_path: Path) -> Place:
    server, provider = around
    org = f"org-{next(_numbers)}"
    assert server.post("/v1/organisations", {"name": org}).status_code == 201
    made = server.post("/v1/keys", {"name": "sdk", "scopes": ["ingest"]}, org=org)
    assert made.status_code == 201, made.text
    return Place(server, provider, tmp_path, org, made.json()["raw_key"], made.json()["id"])


@contextmanager
def both(place: Place, backend: str = "") -> Iterator[dict[str, Client]]:
    """Run a client of each version."""
    with ExitStack() as stack:
        yield {version: stack.enter_context(place.client(version, backend=backend)) for version in VERSIONS}


def eventually(look: Callable[[], Found], seconds: float = 10) -> Found:
    """Return what `look` finds as soon as it finds anything."""
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.05)
    assert found
    return found


def begin(client: Client, place: Place, name: str, **said: object) -> None:
    """Make a client object, and wait until its config has arrived."""
    client.tell("guard", name=name, options={"api_key": place.key}, **said)
    path = f"/v1/agents/{name}/budgets"
    eventually(lambda: place.get(path).get("budgets"))


def test_every_call_is_counted_once_from_threads_streams_and_failures(place: Place) -> None:
    with both(place) as clients:
        for version, client in clients.items():
            name = f"bot-{version}"
            guardrails = {"max_calls_per_run": 1000, "max_tokens_per_run": 10**7, "detect_loops": False}
            options = {"api_key": place.key, "run_id": f"run-{version}", **guardrails}
            client.tell("guard", name=name, options=options, budget=["daily", 50.0])
            client.begin("calls", name=name, count=40, threads=8)
            client.begin("calls", name=name, count=2, stream=True)
            client.begin("calls", name=name, count=2, model="refused")
            client.begin("shutdown", name=name)
        for version, client in clients.items():
            assert client.answer() == {"ends": {"": 40}}
            assert client.answer() == {"ends": {"": 2}}
            assert client.answer() == {"ends": {"BadRequestError:": 2}}
            client.answer()
            name = f"bot-{version}"
            events, errors, input_tokens, output_tokens = place.usage(name)
            assert (events, errors) == (44, 2)
            # Of a stream the client sends its own estimate beside the provider's figure.
            assert input_tokens >= 40 * INPUT_TOKENS
            assert output_tokens >= 40 * OUTPUT_TOKENS
            synced = {(one["budget_type"], one["period"]) for one in _budgets(place, name)}
            assert {("cost", "daily"), ("tokens_total", "run"), ("calls", "run")} <= synced


def _budgets(place: Place, name: str) -> list[dict[str, Any]]:
    return list(place.get(f"/v1/agents/{name}/budgets")["budgets"])


def test_the_config_arrives_at_the_first_attempt_and_a_restart_changes_nothing(place: Place) -> None:
    seen: list[list[dict[str, Any]]] = []
    for _ in range(2):
        with both(place) as clients:
            for version, client in clients.items():
                begin(client, place, f"bot-{version}", budget=["daily", 0.25])
            log = (place.folder / "home-2.1.0" / "log").read_text()
            assert "sync" not in "".join(line for line in log.splitlines() if "WARNING" in line)
        seen.append([_plain(one) for version in VERSIONS for one in _budgets(place, f"bot-{version}")])
    assert seen[0] == seen[1]
    assert [one["limit"] for one in seen[0]] == ["0.25", "0.25"]
    assert {one["source"] for one in seen[0]} == {"sdk:bot-2.1.0", "sdk:bot-1.0.2"}
    rules = place.get("/v1/alerts/configs")["data"]
    assert {rule["channel"] for rule in rules} >= {"email", "kill"}


def _plain(budget: dict[str, Any]) -> dict[str, Any]:
    return {name: budget[name] for name in ("id", "limit", "thresholds", "source")}


def test_what_an_outage_left_on_disk_is_replayed_by_another_process_and_counted_once(place: Place) -> None:
    port = urlsplit(place.server.base_url).port
    assert port is not None
    with Proxy(port) as proxy:
        proxy.cut()
        _calls_by_new_processes(place, 7, backend=f"http://127.0.0.1:{proxy.port}")
    assert [place.usage(f"bot-{version}")[0] for version in VERSIONS] == [0, 0]
    for done in (8, 9):
        _calls_by_new_processes(place, 1)
        for version in VERSIONS:
            assert place.usage(f"bot-{version}")[:3] == (done, 0, done * INPUT_TOKENS)


def _calls_by_new_processes(place: Place, count: int, backend: str = "") -> None:
    with both(place, backend) as clients:
        for version, client in clients.items():
            client.begin("guard", name=f"bot-{version}", options={"api_key": place.key})
            client.begin("calls", name=f"bot-{version}", count=count)
            client.begin("shutdown", name=f"bot-{version}")
        for client in clients.values():
            assert [client.answer() for _ in range(3)] == [{}, {"ends": {"": count}}, {}]


class _Forgetful(ThreadingHTTPServer):
    """Passes requests on, and drops the answer of the first batch that the server has taken."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.target = target
        self.lost: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Forgetful

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target = http.client.HTTPConnection(self.server.target, timeout=10)
        target.request("POST", self.path, body, dict(self.headers))
        answer = target.getresponse()
        content = answer.read()
        target.close()
        if self.path == "/v1/ingest" and not self.server.lost:
            self.server.lost.append(answer.status)
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def forgetful(server: Server) -> Iterator[_Forgetful]:
    proxy = _Forgetful(urlsplit(server.base_url).netloc)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_whose_answer_was_lost_is_counted_once(place: Place, version: str) -> None:
    with forgetful(place.server) as proxy:
        for expected in (5, 6):
            with place.client(version, backend=proxy.url) as client:
                client.tell("guard", name="bot", options={"api_key": place.key})
                client.tell("calls", name="bot", count=5 if expected == 5 else 1)
                client.tell("shutdown", name="bot")
            assert place.usage("bot")[:3] == (expected, 0, expected * INPUT_TOKENS)
        assert proxy.lost == [202]


def test_a_revoked_key_stops_the_counting_and_not_the_agent(place: Place) -> None:
    assert place.server.request("DELETE", f"/v1/keys/{place.key_id}", org=place.org).status_code == 204
    with both(place) as clients:
        for client in clients.values():
            client.tell("guard", name="bot", options={"api_key": place.key})
            assert client.tell("calls", name="bot", count=3) == {"ends": {"": 3}}
            client.tell("shutdown", name="bot")
    assert place.usage("bot")[0] == 0


def test_an_organisations_budget_set_by_one_agent_stops_another(place: Place) -> None:
    with both(place) as clients, place.client("2.1.0", home="spender") as spender:
        spent = 4 * CALL_USD
        begin(spender, place, "spender", org_budget=["org_budget", spent])
        (budget,) = place.get("/v1/org/budgets")["budgets"]
        assert (budget["budget_type"], budget["limit_value"], budget["source"]) == ("cost", spent, "sdk")
        spender.tell("calls", name="spender", count=4)
        spender.tell("shutdown", name="spender")
        for version, client in clients.items():
            begin(client, place, f"other-{version}", budget=["daily", 100.0])
            client.begin("until_stopped", name=f"other-{version}", seconds=3 * FLUSH_S)
        for version, client in clients.items():
            _assert_stopped(version, client.answer(), "org_budget_exceeded")
    (budget,) = place.get("/v1/org/budgets")["budgets"]
    assert budget["usage_pct"] > 100


def _assert_stopped(version: str, said: dict[str, Any], reason: str) -> None:
    """The next call after the refused batch is refused by the client itself; only the newer one says why."""
    if version == "2.1.0":
        assert (said["end"], said["kills"]) == (f"IngestRejectedError:{reason}", [reason])
    else:
        assert (said["end"], said["kills"]) == ("BudgetExceededError:", [None])
    assert said["calls"] > 0


def test_a_kill_stops_one_agent_and_not_its_neighbour(place: Place) -> None:
    with both(place) as clients, place.client("2.1.0", home="neighbour") as neighbour:
        begin(neighbour, place, "neighbour", budget=["daily", 100.0])
        for version, client in clients.items():
            begin(client, place, f"bot-{version}", budget=["daily", 100.0])
            assert place.post(f"/v1/agents/bot-{version}/kill")["status"] == "killed"
        neighbour.begin("until_stopped", name="neighbour", seconds=1.5 * FLUSH_S)
        for version, client in clients.items():
            client.begin("until_stopped", name=f"bot-{version}", seconds=3 * FLUSH_S)
        for version, client in clients.items():
            _assert_stopped(version, client.answer(), "tier_agent_limit")
            assert place.usage(f"bot-{version}")[0] > 0, "what was spent is recorded before it is refused"
        assert neighbour.answer()["end"] is None


def test_a_paused_subscription_refuses_and_a_resumed_one_takes_again(place: Place) -> None:
    assert place.post("/v1/billing/pause")["subscription_status"] == "paused"
    with both(place) as clients:
        for client in clients.values():
            client.tell("guard", name="bot", options={"api_key": place.key})
            assert client.tell("calls", name="bot", count=2) == {"ends": {"": 2}}
            client.tell("shutdown", name="bot")
        assert place.usage("bot")[0] == 0
        place.post("/v1/billing/resume")
        for client in clients.values():
            client.tell("guard", name="bot", options={"api_key": place.key})
            client.tell("calls", name="bot", count=2)
            client.tell("shutdown", name="bot")
    assert place.usage("bot")[0] == 4


def test_the_pooled_spend_of_several_processes_stops_an_agent_at_its_limit(place: Place) -> None:
    """Each process alone stays far below the limit that all of them together reach."""
    limit = 0.009  # twelve calls
    with ExitStack() as stack:
        homes = [(version, f"home-{number}") for version in VERSIONS for number in range(2)]
        clients = [stack.enter_context(place.client(version, home=home)) for version, home in homes]
        for client in clients:
            begin(client, place, "bot", budget=["daily", limit])
        for client in clients:
            client.tell("calls", name="bot", count=4)
        for client in clients:
            client.begin("until_stopped", name="bot", seconds=4 * FLUSH_S, pause=2.0)
        for (version, _), client in zip(homes, clients, strict=True):
            _assert_stopped(version, client.answer(), "tier_agent_limit")
    (budget,) = [one for one in _budgets(place, "bot") if one["budget_type"] == "cost"]
    assert budget["limit_value"] == limit
    assert budget["budget_state"] == "exceeded"
    assert place.get("/v1/alerts")["alerts"][0]["agent_name"] == "bot"
