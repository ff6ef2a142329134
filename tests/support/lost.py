"""A PostgreSQL server of a test's own, to be stopped, paused and begun again while a program uses it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support import services
from support.engines import Admin, PostgresDatabase, require_binaries
from support.services import Service

WAYS = ("paused", "immediate", "fast")
"""How a database is lost: it hangs with all its connections, it dies, it is shut down."""


class OwnServer:
    """A running server, and what may befall it."""

    def __init__(self, folder: Path, service: Service) -> None:
        self._folder = folder
        self.service = service
        self.address = service.address
        self._stopped: list[int] = []

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def log(self) -> str:
        """What the server has written down."""
        return (self._folder / "data/log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return services.is_running(self._folder)

    def lose(self, way: str) -> None:
        """Take it away in one of `WAYS`."""
        if way != "paused":
            services.stop(self._folder, mode=way)
            return
        # The postmaster first: it must not replace what stops after it.
        postmaster = int((self._folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        self._stopped = [postmaster, *_children_of(postmaster)]
        for process in self._stopped[1:]:
            os.kill(process, signal.SIGSTOP)

    def give_back(self) -> None:
        """Let it go on, or start it."""
        if not self._stopped:
            services.start(self._folder)
        for process in reversed(self._stopped):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        self._stopped = []

    def throw_away(self) -> None:
        if self._stopped:
            self.give_back()
        services.throw_away(self._folder)


class OwnDatabase(PostgresDatabase):
    """A database on a server of a test's own, which makes its schema when it first opens it."""

    def __init__(self, folder: Path, service: Service) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = "bursar"
        self.address = service.address
        self.settings = {"database_url": self.address}
        self.environment = {"BURSAR_DATABASE_URL": self.address}
        self._admin = Admin(service)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._admin.ask(self.name, sql, *values)

    def release(self) -> None:
        self._admin.forget(self.name)

    def drop(self) -> None:
        self.release()


def _children_of(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name may hold anything, a parenthesis too.
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(status.parent.name))
    return found


@contextmanager
def own_server(name: str) -> Iterator[OwnServer]:
    """Start a server that is this test's alone, and throw it away."""
    require_binaries()
    folder = services.folder_for_tests()
    folder = folder.with_name(f"bursar-tests-{name}-{os.getpid()}")
    server = OwnServer(folder, services.start(folder, owner=os.getpid()))
    try:
        yield server
    finally:
        server.throw_away()
