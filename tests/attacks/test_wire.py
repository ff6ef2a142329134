"""Raw bytes on a real socket: framing that lies, bodies without end, connections that stay or break."""

import contextlib
import gzip
import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bursar.storage.sqlite.store import DATABASE_NAME
from support.desk import event
from support.server import Server, running_server

BODY = json.dumps({"events": [event()]}).encode()
ANSWER_S = 20
RSS_KIB_MAX = 60 * 1024
MEBIBYTE = bytes(2**20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("wire") / "data") as running:
        yield running


def connect(server: Server) -> socket.socket:
    where = urlsplit(server.base_url)
    return socket.create_connection((where.hostname, where.port), ANSWER_S)


def head(server: Server, *lines: str, path: str = "/v1/ingest") -> bytes:
    fixed = (f"POST {path} HTTP/1.1", "Host: bursar", f"Authorization: Bearer {server.token}")
    return "\r\n".join((*fixed, *lines, "", "")).encode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer; 0 where the server closed without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = _received(connection)
        if not part:
            return 0, received
        received += part
    start, _, body = received.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in start.lower().split(b"\r\n") if line.startswith(b"content-length")
    ]
    while len(body) < int(lengths[0]):
        body += _received(connection)
    return int(start.split()[1]), body


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def recorded(server: Server) -> int:
    connection = sqlite3.connect(server.data_dir / DATABASE_NAME)
    try:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        connection.close()


def rss_kib(server: Server) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_many_requests_share_a_connection(server: Server) -> None:
    packed = gzip.compress(BODY)
    with connect(server) as connection:
        for _ in range(5):
            lines = ("Content-Encoding: gzip", f"Content-Length: {len(packed)}")
            connection.sendall(head(server, *lines) + packed)
            assert answer(connection)[0] == 202


def test_a_chunked_body_is_taken_in_any_pieces(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, "Transfer-Encoding: chunked"))
        for start in range(0, len(BODY), 11):
            part = BODY[start : start + 11]
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert answer(connection)[0] == 202


@pytest.mark.parametrize("lines", [("Content-Length: 104857600",), ("Transfer-Encoding: chunked",)])
def test_a_body_beyond_the_cap_is_refused_and_fills_no_memory(server: Server, lines: tuple[str]) -> None:
    before = rss_kib(server)
    with connect(server) as connection:
        connection.sendall(head(server, *lines))
        with contextlib.suppress(OSError):
            for _ in range(100):
                chunk = MEBIBYTE if "Length" in lines[0] else b"100000\r\n" + MEBIBYTE + b"\r\n"
                connection.sendall(chunk)
        status, body = answer(connection)
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    assert rss_kib(server) - before < RSS_KIB_MAX


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Content-Length: 99999999999999999999999",),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, identity",),
        (": no name",),
        ("Bad\x00Header: x",),
        ("X-Long: " + "x" * 300_000,),
    ],
)
def test_framing_that_lies_records_nothing(server: Server, lines: tuple[str, ...]) -> None:
    before = recorded(server)
    with connect(server) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head(server, *lines) + b"zz\r\n" + BODY)
            connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] < 500
    assert recorded(server) == before


@pytest.mark.parametrize("sent", [0, 1, len(BODY) // 2, len(BODY) - 1])
def test_a_client_that_leaves_in_the_middle_records_nothing(server: Server, sent: int) -> None:
    before = recorded(server)
    with connect(server) as connection:
        connection.sendall(head(server, f"Content-Length: {len(BODY)}") + BODY[:sent])
    assert recorded(server) == before


def test_a_client_that_does_not_wait_for_its_answer_is_recorded_all_the_same(server: Server) -> None:
    before = recorded(server)
    with connect(server) as connection:
        connection.sendall(head(server, f"Content-Length: {len(BODY)}") + BODY)
    with connect(server) as connection:
        connection.sendall(head(server, f"Content-Length: {len(BODY)}") + BODY)
        assert answer(connection)[0] == 202
    assert recorded(server) == before + 2


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff%fe", "/v1/events/%00", "/..%2f..%2fetc", "/" + "a" * 60_000, "/%"]
)
def test_hostile_paths_are_not_found(server: Server, path: str) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, "Content-Length: 0", path=path))
        assert 400 <= answer(connection)[0] < 500


def test_the_server_still_serves(server: Server) -> None:
    assert server.is_running
    assert server.get("/healthz").status_code == 200
    log = server.data_dir.with_name("data.log").read_text()
    assert server.token not in log
    assert '"level": "error"' not in log
