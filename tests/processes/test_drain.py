"""The end of a server: it says so first, finishes what is under way, and keeps to its time."""

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from support.engines import Database
from support.server import Server, running_server
from support.traffic import Traffic
from support.traffic_books import Books


def readiness(server: Server) -> int | None:
    """What a balancer's fresh connection hears, None when nobody listens."""
    try:
        return httpx2.get(f"{server.base_url}/readyz", trust_env=False, timeout=5).status_code
    except httpx2.TransportError:
        return None


class Balancer:
    """Sends to servers that say that they are ready, as proxies do: it asks each ten times a second."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self._ready: list[str] = []
        self._turn = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def pick(self) -> str:
        """The next ready server's address."""
        ready = self._ready
        self._turn += 1
        return ready[self._turn % len(ready)]

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self._ready) != count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self._ready = [one.base_url for one in list(self.servers) if readiness(one) == 200]


def test_two_servers_restarted_one_by_one_fail_no_request(shared: Database) -> None:
    balancer = Balancer()
    drain = {**shared.environment, "BURSAR_DRAIN_SECONDS": "1.5"}

    def start(stack: ExitStack) -> Server:
        server = stack.enter_context(running_server(shared.folder, **drain))
        balancer.servers.append(server)
        return server

    with ExitStack() as stack:
        old = [start(stack), start(stack)]
        balancer.wait_for(2)
        books = Books(shared, old[0])
        with Traffic(balancer.pick, old[0].token) as traffic:
            traffic.wait_for(40)
            for server in old:
                new = start(stack)
                balancer.wait_for(3)
                assert server.stop() == 0
                balancer.servers.remove(server)
                balancer.wait_for(2)
                traffic.wait_for(40)
        assert traffic.failures == []
        assert len({answer.url for answer in traffic.answers}) == 4
        books.agree(traffic, new)
        balancer.close()


def test_a_server_that_ends_says_so_while_it_still_serves(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", BURSAR_DRAIN_SECONDS="2") as server:
        kept = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
        kept.request("GET", "/readyz")
        first = kept.getresponse()
        assert (first.status, first.getheader("connection")) == (200, None)
        first.read()
        begun = time.monotonic()
        server._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 2
        while readiness(server) != 503:
            assert time.monotonic() < deadline
        kept.request("GET", "/readyz")
        last = kept.getresponse()
        assert (last.status, last.getheader("connection")) == (503, "close")
        assert b'"draining":true' in last.read()
        answer = server.post("/v1/events", {"agent": "a", "model": "gpt-4o", "input_tokens": 5})
        assert answer.status_code in {200, 201, 202}
        assert server._process.wait(20) == 0
        assert 2 <= time.monotonic() - begun < 12
        assert readiness(server) is None


def slow_ingest(server: Server) -> tuple[socket.socket, bytes]:
    """Begin a request whose last byte is still to come."""
    host, port = urlsplit(server.base_url).netloc.split(":")
    body = (
        b'{"events":[{"agent_name":"a","provider":"openai","model":"gpt-4o","input_tokens":1,'
        b'"output_tokens":1,"cost":0,"timestamp":"2026-01-01T00:00:00Z","idempotency_key":"slow"}]}'
    )
    head = (
        f"POST /v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    link = socket.create_connection((host, int(port)), 30)
    link.sendall(head.encode() + body[:-1])
    time.sleep(0.2)
    return link, body[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished_and_kept(number: signal.Signals, database: Database) -> None:
    with running_server(database.folder, **database.environment) as server:
        link, rest = slow_ingest(server)
        server._process.send_signal(number)
        time.sleep(0.5)
        assert server.is_running
        link.sendall(rest)
        assert b" 202 " in link.recv(4096)
        link.close()
        assert server._process.wait(20) == 0
    assert database.rows("SELECT count(*) FROM event") == [(1,)]


def ended_within(server: Server, seconds: float, act: Callable[[], None]) -> float:
    begun = time.monotonic()
    act()
    server._process.wait(seconds)
    return time.monotonic() - begun


def test_a_request_that_never_ends_delays_the_end_by_ten_seconds_at_most(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        link, _ = slow_ingest(server)
        took = ended_within(server, 16, lambda: server._process.send_signal(signal.SIGTERM))
        assert 9 < took < 15
        link.close()


def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", BURSAR_DRAIN_SECONDS="60") as server:
        link, _ = slow_ingest(server)

        def twice() -> None:
            server._process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            server._process.send_signal(signal.SIGTERM)

        assert ended_within(server, 10, twice) < 4
        link.close()
