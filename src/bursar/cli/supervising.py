"""Several worker processes on one socket, looked after by a parent that serves nothing itself.

    bind → first worker (schema, first organisation, greeting) → the others → watch, until a signal

Uvicorn's supervisor, which starts fresh interpreters and asks them by pipe whether they live,
with differences of ours: the first worker begins alone, so that a database that refuses is
told once; a worker that dies again and again is started ever less often, since a database
that is away for a minute must not end the server; and a worker that is replaced keeps its
connections until their clients have heard that they end.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, parent_process
from types import FrameType

import structlog
import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from bursar.cli.address import leave_address, remove_address
from bursar.cli.failures import Failure
from bursar.cli.listening import RETIRE, RETIRE_S, SHUTDOWN_S
from bursar.cli.logs import configure_logs
from bursar.cli.output import say, write
from bursar.cli.sockets import bind, url_of
from bursar.core.errors import AppError
from bursar.settings import Settings

HUNG_S = 10.0
"""A worker that does not answer its parent for so long is killed, and started anew."""

READY_S = 60.0
"""How long a worker may take to begin in place of another, which serves on if it does not."""

CLEAN_UP_S = 10.0
"""What a worker may take for its last writes, beyond its requests, before it is killed."""

STEADY_S = 30.0
PAUSE_S_MAX = 10.0

_log = structlog.get_logger()


class Worker(Process):
    """One process that serves.

    Args:
        config: Uvicorn's, for its supervisor.
        listener: Bound, shared with the other workers.
        settings: Of the server.
        deaths: How many times in a row this place's worker has died soon after it began.
        is_first: Whether it begins the server: first run, greeting.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        settings: Settings,
        *,
        deaths: int = 0,
        is_first: bool = False,
    ) -> None:
        self._settings = settings
        self._is_first = is_first
        self._is_started = False
        self.deaths = deaths
        self.began_at = time.monotonic()
        super().__init__(config, [listener])

    def pong(self) -> None:
        """Answer one question of the parent: whether requests are served."""
        self.child_conn.recv()
        self.child_conn.send(self._is_started)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; runs in the new process."""
        assert sockets  # noqa: S101 - `__init__` gave one
        threading.Thread(target=self.always_pong, name="pong", daemon=True).start()
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        # Ctrl-C reaches the parent only, which tells each worker once.
        os.setpgid(0, 0)
        # Imports make much and throw little away; `serving` lets the collector on again.
        gc.disable()
        try:
            self._serve(sockets[0])
        except (Failure, AppError) as error:
            failure = error if isinstance(error, Failure) else Failure.from_error(error)
            say(f"Error: {failure.sentence}")
            if failure.hint:
                say(failure.hint)
            sys.exit(failure.exit_code)

    def _serve(self, listener: socket.socket) -> None:
        # Only in the worker: the parent needs nothing of the server itself.
        from bursar.cli.serving import serve_on, serve_quietly  # noqa: PLC0415

        configure_logs(self._settings.log_level)
        if self._is_first:
            serve_on(listener, self._settings, self._greet)
        else:
            serve_quietly(listener, self._settings, self._started)

    def _greet(self, text: str) -> None:
        write(text)
        self._started()

    def _started(self) -> None:
        self._is_started = True

    def send(self, number: int) -> None:
        """Send a signal; harmless when it has ended."""
        if self.pid is not None and self.exitcode is None:
            os.kill(self.pid, number)

    def end_by(self, deadline: float) -> None:
        """Wait for its end, and kill it when it is late."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.exitcode is None:
            _log.warning("worker_killed", pid=self.pid)
            self.process.kill()
            self.process.join()
        self.parent_conn.close()
        self.child_conn.close()

    def pause_s(self) -> float:
        """Return how long after its beginning another may take its place."""
        return 0.0 if self.has_lived() else min(0.25 * 2**self.deaths, PAUSE_S_MAX)

    def has_lived(self) -> bool:
        """Whether it has been there for a good while."""
        return time.monotonic() - self.began_at > STEADY_S


class Supervisor(Multiprocess):
    """Keeps `settings.workers` workers alive until SIGTERM or SIGINT; SIGHUP replaces them one by one.

    Args:
        settings: Of the server.
        reload: Reads the settings anew, for the workers that come after a SIGHUP.
        listener: Bound.
    """

    def __init__(self, settings: Settings, reload: Callable[[], Settings], listener: socket.socket) -> None:
        config = uvicorn.Config(
            "", workers=settings.workers, log_config=None, timeout_worker_healthcheck=int(HUNG_S)
        )
        super().__init__(config, [listener])
        self.processes: list[Worker] = []  # type: ignore[assignment] # all of them are ours
        self.exit_code = 0
        self._settings = settings
        self._reload = reload
        self._listener = listener
        self._end_signal: int = signal.SIGTERM
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_end)

    def init_processes(self) -> None:
        """Start the first worker, and the others once it serves."""
        first = self._start(is_first=True)
        self.processes.append(first)
        while not first.is_ready(1):
            if first.exitcode is not None:
                self.exit_code = first.exitcode
                self.should_exit.set()
            if self.should_exit.is_set():
                return
            time.sleep(0.02)
        leave_address(self._settings, url_of(self._listener))
        others = [self._start() for _ in range(1, self.processes_num)]
        self.processes.extend(others)
        serving = sum(worker.wait_until_ready(READY_S, self.should_exit) for worker in others)
        _log.info("workers_serve", count=1 + serving)

    def keep_subprocess_alive(self) -> None:
        """Start a worker anew in place of each that has died or hangs."""
        for place, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.exitcode is None:
                if worker.is_alive(HUNG_S):
                    continue
                _log.error("worker_hangs", pid=worker.pid)
                worker.end_by(0)
            if time.monotonic() < worker.began_at + worker.pause_s():
                continue
            _log.error("worker_died", pid=worker.pid, exit_code=worker.exitcode)
            deaths = 0 if worker.has_lived() else worker.deaths + 1
            self.processes[place] = self._start(deaths=deaths)

    def restart_all(self) -> None:
        """Replace each worker by one with the settings as they are now, beginning before the old one ends."""
        try:
            self._settings = self._reload()
        except Failure as failure:
            _log.error("settings_are_wrong", fault=failure.sentence)
            return
        for place, old in enumerate(list(self.processes)):
            new = self._start()
            if not new.wait_until_ready(READY_S, self.should_exit):
                new.end_by(0)
                if not self.should_exit.is_set():
                    _log.error("restart_given_up", pid=new.pid, exit_code=new.exitcode)
                return
            self.processes[place] = new
            old.send(RETIRE)
            old.end_by(time.monotonic() + RETIRE_S + SHUTDOWN_S + CLEAN_UP_S)
            _log.info("worker_replaced", old=old.pid, new=new.pid)

    def terminate_all(self) -> None:
        """Tell each worker to end."""
        for worker in self.processes:
            worker.send(self._end_signal)

    def join_all(self) -> None:
        """Wait for them, and kill those that are late."""
        deadline = time.monotonic() + self._settings.drain_seconds + SHUTDOWN_S + CLEAN_UP_S
        for worker in self.processes:
            worker.end_by(deadline)

    def handle_ttin(self) -> None:
        """Ignored: the number of workers is a setting."""

    def handle_ttou(self) -> None:
        """Ignored: the number of workers is a setting."""

    def _start(self, *, deaths: int = 0, is_first: bool = False) -> Worker:
        worker = Worker(self.config, self._listener, self._settings, deaths=deaths, is_first=is_first)
        worker.start()
        return worker

    def _on_end(self, number: int, _frame: FrameType | None) -> None:
        if self.should_exit.is_set():
            # The second signal: no worker waits for anything any more.
            for worker in self.processes:
                worker.send(number)
        self._end_signal = number
        self.should_exit.set()


def supervise(settings: Settings, reload: Callable[[], Settings]) -> int:
    """Serve with several workers until a signal ends it; return the exit code.

    Raises:
        Failure: The port is taken.
    """
    configure_logs(settings.log_level)
    listener = bind(settings.host, settings.port)
    supervisor = Supervisor(settings, reload, listener)
    try:
        supervisor.run()
    finally:
        remove_address(settings.data_dir)
    return supervisor.exit_code


def _end_with_parent() -> None:
    """End this process when its parent is gone: nobody else would, and it holds the socket."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
