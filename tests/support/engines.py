"""Both engines for one test: a database of its own, how the product opens it, and a look from outside.

def test_what_is_true_of_either(database: Database) -> None:
    with open_desk(database) as desk:
        …

A SQLite database is a data directory. PostgreSQL's lives on a server that the first test which needs
it starts, one for all processes of a run (`support.services`), and is a copy of one that
the product has brought to its schema. `BURSAR_TEST_POSTGRES` names a server to use instead.
"""

import asyncio
import fcntl
import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg
import pytest

from bursar.ledger.verification import VerifyReport
from bursar.pricing.engine import canonical
from bursar.storage.postgres.connection import storable
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.postgres.snapshots import PostgresSnapshots
from bursar.storage.postgres.spelling import spelled
from bursar.storage.postgres.suspension import wait_for
from bursar.storage.sql.directory import DEFAULT_LIMITS, Canonicalise, Limits
from bursar.storage.sql.engine import Engine
from bursar.storage.sql.verify import verify
from bursar.storage.sqlite.engine import SqliteEngine
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring import verify_file
from support import services
from support.services import Service

Result = TypeVar("Result")

KINDS = ("sqlite", "postgres")
FOLDER = "BURSAR_TEST_SERVICES"
"""The variable by which the processes of a run know where its server is, or would be."""

TEMPLATE = "bursar_template"
COLUMNS = """SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'bursar'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum"""


class Database(Protocol):
    """An empty database for one test, brought to its schema when it is first opened.

    Attributes:
        kind: `sqlite` or `postgres`.
        folder: The data directory; PostgreSQL has only the operator's token there.
        settings: What `Settings` are to be made with.
        environment: The same for a program.
    """

    kind: str
    folder: Path
    settings: Mapping[str, Any]
    environment: Mapping[str, str]

    def engine(
        self, *, clock: Callable[[], int], canonicalise: Canonicalise, limits: Limits = DEFAULT_LIMITS
    ) -> Engine:
        """Open it as a process of the product does."""
        ...

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Look from outside; `sql` as SQLite writes it."""
        ...

    def change(self, sql: str, *values: object) -> int:
        """Change it behind the product's back; return how many rows were."""
        ...

    def columns(self) -> dict[str, list[str]]:
        """Return the columns of every table."""
        ...

    def copied(self, folder: Path) -> "Database":
        """Return a copy of it, which nobody may have open."""
        ...

    def meanwhile(self, work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> Result:
        """Within `Readers.run`: let `work` happen on the loop before the read goes on."""
        ...

    def verify(self) -> VerifyReport:
        """Prove the whole ledger."""
        ...

    def release(self) -> None:
        """Stop looking: nothing of ours has it open any more."""
        ...

    def drop(self) -> None:
        """Delete what is not in the folder."""
        ...


def kept_bytes(database: Database) -> bytes:
    """Return all that a database holds, for a look whether something is in it."""
    rows = [row for table in database.columns() for row in database.rows(f"SELECT * FROM {table}")]
    cells = [cell for row in rows for cell in row]
    return b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)


def canonical_names(provider: str, model: str) -> tuple[str, str]:
    named = canonical(provider, model)
    return (named.provider, named.model)


class SqliteDatabase:
    """A data directory."""

    kind = "sqlite"
    settings: Mapping[str, Any] = {}
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE_NAME
        self._look: sqlite3.Connection | None = None

    def engine(
        self, *, clock: Callable[[], int], canonicalise: Canonicalise, limits: Limits = DEFAULT_LIMITS
    ) -> Engine:
        made = SqliteEngine(self.folder, clock=clock, canonicalise=canonicalise, limits=limits)
        made.open()
        return made

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if self._look is None:
            self._look = sqlite3.connect(
                f"file:{self.path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        return self._look.execute(sql, values).fetchall()

    def change(self, sql: str, *values: object) -> int:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(sql, values).rowcount

    def columns(self) -> dict[str, list[str]]:
        tables = self.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            table: [name for (name,) in self.rows("SELECT name FROM pragma_table_xinfo(?)", table)]
            for (table,) in tables
        }

    def copied(self, folder: Path) -> "SqliteDatabase":
        self.release()
        shutil.copytree(self.folder, folder)
        return SqliteDatabase(folder)

    def meanwhile(self, work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> Result:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    def verify(self) -> VerifyReport:
        return verify_file(self.path)

    def release(self) -> None:
        if self._look is not None:
            self._look.close()
            self._look = None

    def drop(self) -> None:
        self.release()


class PostgresDatabase:
    """A database on the run's server."""

    kind = "postgres"

    def __init__(self, folder: Path, template: str = TEMPLATE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = f"t_{uuid.uuid4().hex}"
        admin().ask("postgres", f'CREATE DATABASE {self.name} TEMPLATE "{template}" OWNER bursar')
        self.address = server().of(self.name)
        self.settings: Mapping[str, Any] = {"database_url": self.address}
        self.environment: Mapping[str, str] = {"BURSAR_DATABASE_URL": self.address}

    def engine(
        self, *, clock: Callable[[], int], canonicalise: Canonicalise, limits: Limits = DEFAULT_LIMITS
    ) -> Engine:
        made = PostgresEngine(self.address, clock=clock, canonicalise=canonicalise, limits=limits)
        made.open()
        return made

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return admin().ask(self.name, sql, *values)

    def change(self, sql: str, *values: object) -> int:
        return admin().change(self.name, sql, *values)

    def run_script(self, sql: str) -> None:
        """Run statements as PostgreSQL spells them."""
        admin().run_script(self.name, sql)

    def columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for table, column in self.rows(COLUMNS):
            found.setdefault(table, []).append(column)
        return found

    def copied(self, folder: Path) -> "PostgresDatabase":
        self.release()
        shutil.copytree(self.folder, folder)
        return PostgresDatabase(folder, self.name)

    def meanwhile(self, work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> Result:
        assert loop is asyncio.get_running_loop()
        return wait_for(work)

    def verify(self) -> VerifyReport:
        return verify(PostgresSnapshots(self.address))

    def release(self) -> None:
        admin().forget(self.name)

    def drop(self) -> None:
        self.release()
        admin().ask("postgres", f"DROP DATABASE {self.name} WITH (FORCE)")


def new_database(kind: str, folder: Path) -> Database:
    """Return an empty database of `kind`, with `folder` as its data directory; drop it in the end.

    Skips the test where there is no PostgreSQL, and fails it where there must be one.
    """
    return SqliteDatabase(folder) if kind == "sqlite" else PostgresDatabase(folder)


@contextmanager
def temporary_database(kind: str, folder: Path) -> Iterator[Database]:
    """Make an empty database, and drop it in the end."""
    made = new_database(kind, folder)
    try:
        yield made
    finally:
        made.drop()


def database_of(place: Database | Path) -> Database:
    """Return a database, or SQLite's in a directory."""
    return SqliteDatabase(place) if isinstance(place, Path) else place


def is_missing() -> bool:
    """Whether PostgreSQL's tests cannot be run on this machine."""
    return "BURSAR_TEST_POSTGRES" not in os.environ and services.binaries() is None


@cache
def server() -> Service:
    """Return the run's server, started by whoever needs it first."""
    named = os.environ.get("BURSAR_TEST_POSTGRES")
    if named:
        return Service(named, named, 0)
    require_binaries()
    return services.start(Path(os.environ[FOLDER]), owner=os.getppid())


def require_binaries() -> None:
    """Skip the test where there is no PostgreSQL, and fail it where there must be one."""
    if services.binaries() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is missing: apt-get install postgresql")
        pytest.skip("no PostgreSQL here: not proved on it (`make services` installs it)")


@cache
def admin() -> "Admin":
    """Return the run's look from outside, with the template made."""
    made = Admin(server())
    folder = Path(os.environ[FOLDER])
    folder.mkdir(exist_ok=True)
    with (folder / "template").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.ask("postgres", "SELECT 1 FROM pg_database WHERE datname = ?", TEMPLATE):
            unfinished = f"{TEMPLATE}_{os.getpid()}"
            made.ask("postgres", f"CREATE DATABASE {unfinished} OWNER bursar")
            opened = PostgresEngine(server().of(unfinished), clock=lambda: 0, canonicalise=canonical_names)
            opened.open()
            made.run(opened.close())
            made.ask("postgres", f"ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")
    return made


class Admin:
    """The superuser, whom no row-level security binds; waits for each answer in a thread of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connections: dict[str, asyncpg.Connection] = {}

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True, name="admin").start()
        return loop

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def ask(self, database: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.run(self._ask(database, sql, values))

    def change(self, database: str, sql: str, *values: object) -> int:
        return self.run(self._change(database, sql, values))

    def run_script(self, database: str, sql: str) -> None:
        self.run(self._run_script(database, sql))

    def forget(self, database: str) -> None:
        """Close the connection to `database`."""
        if database in self._connections:
            self.run(self._connections.pop(database).close())

    async def _ask(self, database: str, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        connection = await self._connection(database)
        found = await connection.fetch(spelled(sql).text, *map(storable, values))
        return [tuple(row) for row in found]

    async def _change(self, database: str, sql: str, values: tuple[object, ...]) -> int:
        connection = await self._connection(database)
        status = await connection.execute(spelled(sql).text, *map(storable, values))
        return int(status.rpartition(" ")[2])

    async def _run_script(self, database: str, sql: str) -> None:
        await (await self._connection(database)).execute(sql)

    async def _connection(self, database: str) -> asyncpg.Connection:
        known = self._connections.get(database)
        if known is None or known.is_closed():
            known = await asyncpg.connect(
                self._service.of(database, as_admin=True), server_settings={"search_path": "bursar, public"}
            )
            await known.set_type_codec(
                "numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text"
            )
            self._connections[database] = known
        return known


def _number(text: str) -> object:
    return int(text) if "." not in text else float(text)
