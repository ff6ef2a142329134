"""A keep-alive connection that asks again, with the same key, until somebody answers.

Python's standard library alone, so that a reader can follow what goes over the wire. Times
are of `time.perf_counter`: `asked_at` before the first byte of the first attempt left,
`answered_at` after the last byte of the answer came.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

GIVE_UP_S = 60.0
"""How long a caller asks again; a server that is killed and started again is back in two seconds."""
ANSWER_S = 30.0
BUSY = frozenset({503, 507})


class Answer(NamedTuple):
    """What the server said, and between which instants it must have decided."""

    status: int
    body: Mapping[str, object]
    asked_at: float
    answered_at: float
    attempts: int


class NoAnswer(Exception):
    """Nobody answered within `GIVE_UP_S`."""


class Wire:
    """One connection of one caller, opened when needed, again after it broke."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._head = f"Host: {parts.hostname}\r\nAuthorization: Bearer {key}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Return the answer of the first attempt that got one.

        A broken connection, a time-out, 503 and 507 are asked again: whether the server
        acted is not known then, and the key in the body makes the repeat harmless.

        Raises:
            NoAnswer: Nobody answered.
        """
        asked_at, attempts = time.perf_counter(), 0
        while True:
            attempts += 1
            try:
                async with asyncio.timeout(ANSWER_S):
                    status, fields = await self._once(method, path, body)
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
                self.cut()
            else:
                if status not in BUSY:
                    return Answer(status, fields, asked_at, time.perf_counter(), attempts)
            if time.perf_counter() - asked_at > GIVE_UP_S:
                raise NoAnswer(f"{method} {path}: no answer in {GIVE_UP_S:g} s")
            await asyncio.sleep(0.05)

    async def send_and_die(self, method: str, path: str, body: object) -> float:
        """Send a request and cut the connection before any answer; return when it was begun."""
        asked_at = time.perf_counter()
        with contextlib.suppress(OSError):
            await self._send(method, path, body)
        self.cut()
        return asked_at

    def cut(self) -> None:
        """End the connection, whatever is in it."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _once(self, method: str, path: str, body: object) -> tuple[int, Mapping[str, object]]:
        reader = await self._send(method, path, body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.cut()
        return int(head[0].split(" ", 2)[1]), json.loads(content) if content else {}

    async def _send(self, method: str, path: str, body: object) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if content else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode("latin-1") + content)
        await writer.drain()
        return reader
