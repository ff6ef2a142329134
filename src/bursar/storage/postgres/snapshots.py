"""A database's states as whoever proves it reads them: `storage.sql.verify_ports.Snapshots`.

    address → a connection and a loop of its own → one transaction that only reads → `storage.sql.verify`

Others write meanwhile; the database can only not clear away what this one may still read.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import asyncpg

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import Findings, Violation
from bursar.storage.migrations.steps import postgres_steps
from bursar.storage.postgres import structure
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.postgres.errors import translated_errors
from bursar.storage.postgres.migrate import applied
from bursar.storage.postgres.opening import connected, place_of
from bursar.storage.postgres.pool import prepare
from bursar.storage.postgres.sums import PostgresSums
from bursar.storage.postgres.suspension import in_worker, wait_for
from bursar.storage.sql.verify_ports import Unsummable

Result = TypeVar("Result")

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SETTINGS = {
    "bursar.org": "'0'",
    "search_path": "bursar, public",
    "statement_timeout": "0",
    "lock_timeout": "'10s'",
    # Whoever proves may have been stopped; rows must not be kept for it for ever.
    "idle_in_transaction_session_timeout": "'5min'",
    "jit": "off",
    "work_mem": "'64MB'",
    # Times and organisations decide which way is short: no plan for all of them.
    "plan_cache_mode": "force_custom_plan",
    "random_page_cost": "1.1",
}
_ALONE = {"max_parallel_workers_per_gather": "0"}
_DAMAGED = (
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
    asyncpg.InternalServerError,
    asyncpg.DataError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
)
"""What the server says when it cannot give what a table should hold, in a schema that has all its steps."""

_TABLES = """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org'
    WHERE c.relnamespace = 'bursar'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND NOT a.attisdropped AND c.relname <> 'organisation' ORDER BY c.relname"""


class PostgresSnapshot:
    """`storage.sql.verify_ports.Snapshot` within one transaction after another."""

    def __init__(self, own: asyncpg.Connection, begin: str) -> None:
        self._own = own
        self._begin = begin
        self.connection = PostgresConnection(own)
        self.sums = PostgresSums(self.connection)

    def renew(self) -> None:
        """Go on with the newest state."""
        self.sums.forget()
        wait_for(self._own.execute(f"COMMIT; {self._begin}"))

    @contextmanager
    def joining(self) -> Iterator[None]:
        """See the protocol.

        A table that was not analysed yet, as a fresh one or the parent of partitions, is taken for a small
        one, and would be read anew for each row of the other.
        """
        wait_for(self._own.execute("SET LOCAL enable_nestloop = off"))
        yield
        wait_for(self._own.execute("SET LOCAL enable_nestloop = on"))

    @contextmanager
    def summing(self) -> Iterator[None]:
        """See the protocol."""
        with self._part((asyncpg.NumericValueOutOfRangeError,)) as said:
            yield
        for message in said:
            raise Unsummable(message)

    def tables(self) -> list[str]:
        """Return every table with a column `org`, `organisation` apart."""
        return [name for (name,) in self.connection.execute(_TABLES)]

    def check_structure(self, findings: Findings) -> None:
        """Check what PostgreSQL can say of its own structure."""
        structure.check(self.connection, lambda: self._part(_DAMAGED), findings)

    @contextmanager
    def _part(self, errors: tuple[type[Exception], ...]) -> Iterator[list[str]]:
        """Let errors inside undo only that, so that reading can go on; gives a list of what they said."""
        said: list[str] = []
        wait_for(self._own.execute("SAVEPOINT part"))
        try:
            yield said
        except errors as error:
            said.append(str(error))
            wait_for(self._own.execute("ROLLBACK TO part"))
        wait_for(self._own.execute("RELEASE part"))


class PostgresSnapshots:
    """`storage.sql.verify_ports.Snapshots` of the database at `address`.

    Nothing is kept on the connection from one transaction to the next, so a pooler may stand between.

    Args:
        address: `postgresql://…`, a standby's too.
        is_background: Whether the server's other work comes first: no parallel workers.
    """

    def __init__(self, address: str, *, is_background: bool = False) -> None:
        self._address = address
        settings = _SETTINGS | (_ALONE if is_background else {})
        self._begin = "; ".join(
            [_BEGIN, *(f"SET LOCAL {name} = {value}" for name, value in settings.items())]
        )
        self._reading: asyncio.Task[object] | None = None

    def read(self, work: Callable[[PostgresSnapshot], Result], findings: Findings) -> Result | None:
        """Return what `work` gives on a new snapshot, in this thread, which must have no loop running."""
        with asyncio.Runner() as runner, translated_errors():
            try:
                return runner.run(self._read(work))
            except _DAMAGED as error:
                place = place_of(self._address)
                findings.add(Violation("file", 0, place, "", "a readable database", str(error)))
                return None
            except asyncio.CancelledError as error:
                raise Unavailable("the proof was interrupted") from error
            finally:
                self._reading = None

    @property
    def is_reading(self) -> bool:
        """Whether a `read` is under way."""
        return self._reading is not None

    def interrupt(self) -> None:
        """Cancel the statement that is under way in another thread, and what would come after it."""
        reading = self._reading
        if reading is not None:
            with suppress(RuntimeError):  # its loop may have been closed in this very moment
                reading.get_loop().call_soon_threadsafe(reading.cancel)

    async def _read(self, work: Callable[[PostgresSnapshot], Result]) -> Result:
        self._reading = asyncio.current_task()
        async with connected(self._address, "bursar verify", command_s=None) as own:
            await self._check_schema(own)
            await prepare(own)
            await own.execute(self._begin)
            snapshot = PostgresSnapshot(own, self._begin)
            result = await in_worker(lambda: work(snapshot))
            await own.execute("COMMIT")
        return result

    async def _check_schema(self, own: asyncpg.Connection) -> None:
        place = place_of(self._address)
        history = await applied(own)
        if history is None:
            raise InvalidInput(f"the database {place} is no ledger")
        history.check(postgres_steps(), place)
