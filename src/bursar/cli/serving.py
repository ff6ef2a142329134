"""One server process: socket, database, first run, what it says, and an orderly end.

    bind → open the ledger → first organisation → listen → leave the address → serve → clean up

The socket is bound before the ledger is opened, so that a taken port costs nothing. The
address file appears when requests are answered and goes when the server ends. With more
than one worker, `supervising` binds the socket and each of its processes runs `serve_on`.
"""

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable

from starlette.types import ASGIApp

from bursar.cli.address import leave_address, remove_address, running_address
from bursar.cli.failures import ExitCode, Failure
from bursar.cli.greeting import Start, greeting, place_of
from bursar.cli.listening import Hooks, Listener
from bursar.cli.logs import configure_logs
from bursar.cli.output import write
from bursar.cli.sockets import bind, url_of
from bursar.core.errors import Unavailable
from bursar.pricing.engine import warm_up
from bursar.settings import Settings
from bursar.wiring import Treasury

GC_THRESHOLDS = (50_000, 50, 50)
"""Fewer collections than Python's own: a request allocates much and leaves no cycles. Gave
5 % on batched ingest."""

OPEN_WAIT_S = 5.0
"""How long to wait for a command that is just at work on the ledger, or for a database that begins."""

_POLL_S = 0.05


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises:
        Failure: The port is taken, another process holds the data directory, or the
            database does not answer.
    """
    configure_logs(settings.log_level)
    listener = bind(settings.host, settings.port)

    def on_started(text: str) -> None:
        write(text)
        leave_address(settings, url_of(listener))

    try:
        serve_on(listener, settings, on_started)
    finally:
        remove_address(settings.data_dir)


def serve_on(listener: socket.socket, settings: Settings, on_started: Callable[[str], None]) -> None:
    """Serve on a bound socket; `on_started` gets the greeting once requests are answered."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(listener, settings, on_started))


def serve_quietly(listener: socket.socket, settings: Settings, on_started: Callable[[], None]) -> None:
    """Do the same for a worker that joins others: no first run, no greeting."""

    async def serve() -> None:
        treasury = _open(settings)
        await _listen(listener, treasury, treasury.app, on_started)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def run_jobs(settings: Settings) -> None:
    """Run the background jobs, and tell on the socket how they are, until a signal ends it.

    Raises:
        Failure: The port is taken, or the database does not answer.
    """
    configure_logs(settings.log_level)
    listener = bind(settings.host, settings.port)
    text = f"Runs the jobs of {place_of(settings)}; health and metrics on {url_of(listener)}"

    async def serve() -> None:
        treasury = _open(settings)
        await _listen(listener, treasury, treasury.system_app(), lambda: write(text))

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


async def _serve(listener: socket.socket, settings: Settings, on_started: Callable[[str], None]) -> None:
    treasury = _open(settings)
    url = url_of(listener)
    first_key = await treasury.found(settings.org, settings.zone)
    text = greeting(settings, Start(url, first_key, await _owner_link(treasury, url)))
    await _listen(listener, treasury, treasury.app, lambda: on_started(text))


async def _listen(
    listener: socket.socket, treasury: Treasury, app: ASGIApp, on_started: Callable[[], None]
) -> None:
    def started() -> None:
        on_started()
        _settle()

    drain_s = treasury.settings.drain_seconds
    await Listener(app, Hooks(started, treasury.drain), drain_s=drain_s).serve([listener])


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - there is none on Windows

    return uvloop.new_event_loop


def _open(settings: Settings) -> Treasury:
    """Open the ledger, waiting a moment for a command that is just at work on it."""
    deadline = time.monotonic() + OPEN_WAIT_S
    while True:
        try:
            return Treasury(settings, write=write)
        except Unavailable as error:
            if time.monotonic() > deadline and settings.is_shared:
                raise Failure(error.detail, ExitCode.UNREACHABLE) from None
            address = running_address(settings)
            if address is not None or time.monotonic() > deadline:
                hint = None if address is None else f"A server runs at {address.url}, process {address.pid}."
                raise Failure(error.detail, hint=hint) from None
        time.sleep(_POLL_S)


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
