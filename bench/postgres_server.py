"""PostgreSQL for measurements: a private server on this disk, and databases to measure on.

Durable as it comes (`fsync`, `synchronous_commit`); `BENCH_POSTGRES` names a server to use instead,
as its superuser.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import services

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}
"""A server of this size would have them; the defaults are for a very small one."""


class Databases:
    """A server's databases: made for one measurement each."""

    def __init__(self, service: services.Service) -> None:
        self._service = service

    def ask(self, sql: str, *, database: str = "postgres") -> list[Any]:
        """Return the rows of a statement of the superuser."""

        async def asked() -> list[Any]:
            own = await asyncpg.connect(self._service.of(database, as_admin=True))
            try:
                return list(await own.fetch(sql))
            finally:
                await own.close()

        return asyncio.run(asked())

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Lend the address of an empty database."""
        name = f"bench_{secrets.token_hex(4)}"
        self.ask(f"CREATE DATABASE {name} OWNER bursar")
        try:
            yield self._service.of(name)
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def copy(self, address: str) -> Iterator[str]:
        """Lend the address of a copy of a database that nobody is connected to."""
        name, original = f"bench_{secrets.token_hex(4)}", address.rpartition("/")[2]
        self.ask(f"CREATE DATABASE {name} TEMPLATE {original} OWNER bursar STRATEGY file_copy")
        try:
            yield self._service.of(name)
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def kept(self, name: str) -> str:
        """Return the address of a database that stays, made when it is not there."""
        if not self.ask(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.ask(f"CREATE DATABASE {name} OWNER bursar")
        return self._service.of(name)

    def as_superuser(self, address: str) -> str:
        """Return the same database's address for the superuser, whom no policy binds."""
        return self._service.of(address.rpartition("/")[2], as_admin=True)

    def deadlocks(self, address: str) -> int:
        """Return how many deadlocks the server has seen in a database."""
        name = address.rpartition("/")[2]
        found = self.ask(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'")
        return int(found[0][0])


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Run the server whose data lie in `folder`; they stay. One that ran before is left running."""
    named = os.environ.get("BENCH_POSTGRES")
    if named:
        address = named.replace("//postgres", "//bursar:bursar", 1)
        yield Databases(services.Service(address, named, 0))
        return
    was_running = (folder / "data" / "postmaster.pid").exists()
    service = services.start(folder)
    try:
        one = Databases(service)
        _configure(folder, one)
        yield one
    finally:
        if not was_running:
            services.stop(folder)


def _configure(folder: Path, one: Databases) -> None:
    known = {row[0]: row[1] for row in one.ask("SELECT name, current_setting(name) FROM pg_settings")}
    if any(known[name] != value for name, value in SETTINGS.items()):
        for name, value in SETTINGS.items():
            one.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        services.stop(folder)
        services.start(folder)
