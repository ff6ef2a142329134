"""The server process: socket, first run, what it says, and an orderly end.

    bind → open the ledger → first organisation → listen → leave the address → serve → clean up

The socket is bound before the ledger is opened, so that a taken port costs nothing. The
address file appears when requests are answered and goes when the server ends.
"""

import asyncio
import gc
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import uvicorn

import bursar
from bursar.cli.address import ServerAddress, remove_address, running_address, write_address
from bursar.cli.failures import Failure
from bursar.cli.logs import configure_logs
from bursar.cli.output import write
from bursar.core.errors import Unavailable
from bursar.core.time import system_clock, text_from_micros
from bursar.identity.keys import Scope
from bursar.pricing.engine import warm_up
from bursar.settings import Settings
from bursar.wiring import Treasury

GC_THRESHOLDS = (50_000, 50, 50)
"""Fewer collections than Python's own: a request allocates much and leaves no cycles. Gave
5 % on batched ingest."""

BACKLOG = 2_048
KEEP_ALIVE_S = 75
SHUTDOWN_S = 10
"""How long requests under way may take once the server is told to end."""

LOCK_WAIT_S = 5.0
"""How long to wait for a command that is just at work on the ledger."""

_POLL_S = 0.05
_OWNER_LINE = "Nobody owns the organisation yet. Become its owner (this link works once, for a day):"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        Failure: The port is taken, or another process holds the data directory.
    """
    configure_logs(settings.log_level)
    listener = _bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    treasury = _open(settings)
    url = _url(listener)
    first_key = await _first_run(treasury)
    link = await _owner_link(treasury, url)

    def on_started() -> None:
        write(_greeting(settings, url, first_key, link))
        address = ServerAddress(url, os.getpid(), text_from_micros(system_clock()))
        write_address(settings.data_dir, address)
        _settle()

    config = uvicorn.Config(
        treasury.app,
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
    try:
        await _Server(config, on_started).serve([listener])
    finally:
        remove_address(settings.data_dir)


class _Server(uvicorn.Server):
    """Uvicorn, with a word when it listens, and signals that end it instead of killing it after."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on the first signal, at once on the second."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Failure(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Choose another port with --port, or 0 for any free one.",
        ) from None
    listener.setblocking(False)  # noqa: FBT003 - its only form
    return listener


def _url(listener: socket.socket) -> str:
    """Return an address under which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - there is none on Windows

    return uvloop.new_event_loop


def _open(settings: Settings) -> Treasury:
    """Open the ledger, waiting a moment for a command that is just at work on it."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return Treasury(settings, write=write)
        except Unavailable as error:
            address = running_address(settings.data_dir)
            if address is not None or time.monotonic() > deadline:
                hint = None if address is None else f"A server runs at {address.url}, process {address.pid}."
                raise Failure(error.detail, hint=hint) from None
        time.sleep(_POLL_S)


async def _first_run(treasury: Treasury) -> str | None:
    """Make the first organisation and return its ingest key; None when there is one already."""
    if await treasury.organisations.list():
        return None
    settings = treasury.settings
    made = await treasury.create_organisation(settings.org, settings.zone)
    return await treasury.create_key(made.org, "first ingest key", frozenset({Scope.INGEST, Scope.READ}))


async def _owner_link(treasury: Treasury, url: str) -> str | None:
    """Return a link whose holder becomes the first organisation's owner; None when it has one."""
    org = await treasury.doors.first_org()
    code = None if org is None else await treasury.doors.first_run.offer(org)
    base = treasury.settings.public_url or url
    return None if code is None else f"{base}/v1/auth/first-run?token={code}"


def _settle() -> None:
    """Take what was loaded out of the collector's sight, and load prices meanwhile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    threading.Thread(target=warm_up, name="prices", daemon=True).start()


def _program() -> str:
    """Return how this program was called, so that a printed command can be pasted."""
    called = sys.argv[0]
    if shutil.which("bursar") == called or not Path(called).name.startswith("bursar"):
        return "bursar"
    return quote(os.path.relpath(called) if Path(called).is_relative_to(Path.cwd()) else called)


def _greeting(settings: Settings, url: str, first_key: str | None, link: str | None) -> str:
    data_dir = settings.data_dir.resolve()
    if first_key is None:
        line = f"Bursar {bursar.__version__} serves on {url} (data in {data_dir})"
        return line if link is None else f"{line}\n{_OWNER_LINE}\n  {link}"
    event = (
        '{"events":[{"agent_name":"my-agent","provider":"openai","model":"gpt-4o","input_tokens":1500,'
        '"output_tokens":800,"cost":0,"timestamp":"\'"$(date -u +%FT%TZ)"\'"}]}'
    )
    curl = (
        f"curl -sS {url}/v1/ingest -H 'Authorization: Bearer {first_key}'"
        f" -H 'Content-Type: application/json' -d '{event}'"
    )
    return "\n".join(
        [
            f"Bursar {bursar.__version__}",
            f"  API   {url}",
            f"  data  {data_dir}",
            "",
            f"First run: made the organisation {settings.org!r}. Its ingest key, shown only now:",
            "",
            f"  {first_key}",
            "",
            "Record a first event:",
            "",
            f"  {curl}",
            "",
            "See what it cost:",
            "",
            f"  {_program()} report --data-dir {quote(str(settings.data_dir))}",
            *([] if link is None else ["", _OWNER_LINE, "", f"  {link}"]),
        ]
    )
