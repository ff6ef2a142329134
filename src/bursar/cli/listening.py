"""Uvicorn as `serve` runs it: a word when it listens, and an end that loses no request.

    serving  →  draining: not ready, each answer ends its connection  →  closed: what is under way is finished

Who sends on a kept connection just when a server closes it loses that request. Therefore a
server that ends goes on for `drain_s`: balancers see that it is not ready, clients hear
with their next answer that the connection ends, and both go elsewhere by themselves.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 2_048
KEEP_ALIVE_S = 75
SHUTDOWN_S = 10
"""How long requests under way may take once connections are closed."""

RETIRE_S = 1.0
"""How long a worker that was replaced keeps its connections, at most; it accepts none meanwhile."""

RETIRE = signal.SIGUSR1
"""What tells a worker that another has taken its place."""

_CLOSE = (b"connection", b"close")
_POLL_S = 0.05


class Hooks(NamedTuple):
    """What is called when the server listens, and when it begins to end."""

    on_started: Callable[[], None]
    on_draining: Callable[[], None]


class Listener(uvicorn.Server):
    """A server that drains on SIGTERM and SIGHUP, closes on SIGINT, and ends at once on a second signal."""

    def __init__(self, app: ASGIApp, hooks: Hooks, *, drain_s: float) -> None:
        super().__init__(_config(app))
        self._hooks = hooks
        self._drain_s = drain_s
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._hooks.on_started()

    async def on_tick(self, counter: int) -> bool:
        """Renew the headers that every answer has."""
        is_over = await super().on_tick(counter)
        if self._ending is not None:
            self._end_connections()
        return is_over

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals within the loop; they do not kill the process when it has ended."""
        loop = asyncio.get_running_loop()
        ways = {
            signal.SIGINT: self._close,
            signal.SIGTERM: self._drain,
            signal.SIGHUP: self._drain,
            RETIRE: self._retire,
        }
        for number, way in ways.items():
            loop.add_signal_handler(number, self._begin_to_end, way)
        try:
            yield
        finally:
            for number in ways:
                loop.remove_signal_handler(number)

    def _begin_to_end(self, way: Callable[[], Coroutine[None, None, None]]) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(way())
        else:
            self.force_exit = self.should_exit = True

    async def _drain(self) -> None:
        """Serve on for a while, telling everybody to go elsewhere."""
        self._hooks.on_draining()
        self._end_connections()
        await asyncio.sleep(self._drain_s)
        await self._close()

    async def _retire(self) -> None:
        """Leave new connections to the other workers, and end the kept ones with their next answer."""
        for server in self.servers:
            server.close()
        self._end_connections()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RETIRE_S
        while self.server_state.connections and loop.time() < deadline:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(_POLL_S)
        await self._close()

    async def _close(self) -> None:
        self.should_exit = True

    def _end_connections(self) -> None:
        """Let each answer from now on say that it is its connection's last."""
        state = self.server_state
        if _CLOSE not in state.default_headers:
            state.default_headers = [*state.default_headers, _CLOSE]


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
