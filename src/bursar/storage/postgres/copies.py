"""A PostgreSQL database as one side of a copy: read on one snapshot, or filled chunk by chunk.

    PostgresSource(own)                      a ledger that is read, in one REPEATABLE READ transaction
    PostgresTarget(own, …)  →  finish()      an empty database, filled by COPY

A chunk and its mark are one commit. Until `finish` the table `half_filled` stands there, which
no server opens (`half_filled`). COPY is refused where row-level security is forced upon a table's
owner, so it is not forced meanwhile. Not here: what is copied and in what order (`sql.copying`).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from bursar.core.errors import Conflict, InvalidInput
from bursar.storage.migrations.steps import postgres_steps
from bursar.storage.postgres.errors import translated_errors
from bursar.storage.postgres.half_filled import HALF_FILLED, refuse_half_filled
from bursar.storage.postgres.migrate import applied, migrate
from bursar.storage.postgres.opening import connected, place_of
from bursar.storage.postgres.partitions import make, month_of
from bursar.storage.postgres.snapshots import PostgresSnapshots
from bursar.storage.sql.copying import Key, Mark, Row
from bursar.storage.sql.tables import NUL, OWN, SHOWN_NUL, ByOrg, Column, Figures, Form, Table

SNAPSHOT = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; "
    "SET LOCAL statement_timeout = 0; SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; "
    "SET LOCAL search_path = bursar, public; SET LOCAL bursar.org = '0'; SET LOCAL lock_timeout = 4000"
)
FILLING = (
    "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 4000; SET LOCAL jit = off; "
    "SET LOCAL synchronous_commit = on; SET LOCAL search_path = bursar, public; SET LOCAL bursar.org = '0'"
)
DIGEST_DIGITS = 15
"""As in `sqlite.copies`: 60 bits of a row's digest enter the sum."""

APPLICATION = "bursar copy"
_SERVERS = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'bursar%' AND application_name <> $1"""
_TABLES = """SELECT relname FROM pg_class WHERE relnamespace = 'bursar'::regnamespace
    AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname COLLATE "C" """
_COLUMNS = """SELECT a.attname, format_type(a.atttypid, NULL),
        array_position(i.indkey::int2[], a.attnum), a.attgenerated <> ''
    FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = ('bursar.' || quote_ident($1))::regclass AND a.attnum > 0
        AND NOT a.attisdropped
    ORDER BY a.attnum"""
_FORMS = {"bigint": Form.INTEGER, "integer": Form.INTEGER, "text": Form.TEXT, "bytea": Form.BLOB}
_FENCED = """SELECT relname FROM pg_class WHERE relnamespace = 'bursar'::regnamespace
    AND relkind IN ('r', 'p') AND NOT relispartition AND relrowsecurity"""
_MARKS = "CREATE TABLE half_filled (name TEXT PRIMARY KEY, mark TEXT NOT NULL)"
_SET_MARK = """INSERT INTO half_filled (name, mark) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET mark = excluded.mark"""
_GET_MARK = "SELECT mark FROM half_filled WHERE name = $1"
_ORIGIN = ""
"""The name under which the marks keep where the rows come from."""


@asynccontextmanager
async def reading(address: str, *, alone: bool = False) -> AsyncIterator["PostgresSource"]:
    """Give a ledger on one snapshot.

    Args:
        address: `postgresql://…`.
        alone: Keep everybody from writing until the end.

    Raises:
        InvalidInput: There is no ledger, or not one of this release's schema.
        Conflict: It is half filled, or a server is connected and nobody may write.
        Unavailable: The server does not answer.
    """
    with translated_errors():
        async with connected(address, APPLICATION, command_s=None) as own:
            history = await applied(own)
            if history is None:
                raise InvalidInput(f"there is no ledger in {place_of(address)}")
            history.check(postgres_steps(), place_of(address))
            await refuse_half_filled(own)
            locked = await _lock_of_all(own) if alone else ""
            await own.execute(f"{SNAPSHOT}; {locked}")
            yield PostgresSource(own)
            await own.execute("COMMIT")


async def _lock_of_all(own: asyncpg.Connection) -> str:
    """Return the statement that keeps writers away; servers must have been stopped."""
    servers = await own.fetchval(_SERVERS, APPLICATION)
    if servers:
        raise Conflict(f"a server is connected to the database ({servers} connections); stop it first")
    names = [f'"{table.name}"' for table in await tables_of(own)]
    return f"LOCK TABLE {', '.join(names)} IN SHARE MODE"


@asynccontextmanager
async def filling(address: str, origin: str) -> AsyncIterator["PostgresTarget"]:
    """Give an empty database to be filled; servers may open it when the inside ended without an error.

    Args:
        address: `postgresql://…`; its schema is made where there is none.
        origin: Says where the rows come from: an earlier call from there is gone on with.

    Raises:
        Conflict: It holds a ledger, or was begun from elsewhere.
        InvalidInput: It is there, but may not be used.
        Unavailable: The server does not answer.
    """
    await migrate(address)
    try:
        with translated_errors():
            async with connected(address, APPLICATION, command_s=None) as own:
                target = PostgresTarget(own, address)
                await target.begin(origin)
                yield target
                await target.finish()
    except asyncpg.InsufficientPrivilegeError as error:
        raise InvalidInput(
            f"the role may not fill {place_of(address)}: {error}; use the one that owns its tables"
        ) from error


class PostgresSource:
    """`sql.copying.Source` over a connection whose snapshot stands (`SNAPSHOT`)."""

    def __init__(self, own: asyncpg.Connection) -> None:
        self._own = own

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        return await tables_of(self._own)

    async def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        return int(await self._own.fetchval(f'SELECT count(*) FROM "{table.name}"'))

    async def chunks(self, table: Table, after: Key | None, size: int) -> AsyncIterator[Sequence[Row]]:
        """Yield its rows in order of their key, those behind `after`, `size` at a time."""
        places = ", ".join(f"${number + 1}" for number in range(len(table.key)))
        behind = "" if after is None else f"WHERE ({table.order}) > ({places})"
        cursor = await self._own.cursor(
            f'SELECT {table.list} FROM "{table.name}" {behind} ORDER BY {table.order}', *(after or ())
        )
        while rows := await cursor.fetch(size):
            yield [tuple(row) for row in rows]

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to."""
        return await figures_of(self._own, table)


class PostgresTarget:
    """`sql.copying.Target`: a database with the newest schema and no ledger in it yet.

    `begin` first, `finish` at the end; what is between may be killed and begun again.
    """

    def __init__(self, own: asyncpg.Connection, address: str) -> None:
        self._own = own
        self._address = address

    async def begin(self, origin: str) -> bool:
        """Make it ready to be filled from `origin`; return whether an earlier call had begun.

        Raises:
            Conflict: It holds a ledger, or was begun from elsewhere.
        """
        async with _filling(self._own):
            if await self._own.fetchval(HALF_FILLED):
                begun = await self._own.fetchval(_GET_MARK, _ORIGIN)
                if begun != origin:
                    raise Conflict(
                        "the database is half filled from another source, or the source has changed since; "
                        "begin again with an empty database"
                    )
                return True
            await self._refuse_what_is_there()
            await self._own.execute(_MARKS)
            await self._own.execute(_SET_MARK, _ORIGIN, origin)
            await self._fence("NO FORCE")
        return False

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        return await tables_of(self._own)

    async def mark(self, table: Table) -> Mark | None:
        """Return how far the table has come, None when it has not begun."""
        async with _filling(self._own):
            text = await self._own.fetchval(_GET_MARK, table.name)
        return None if text is None else _mark_from(text)

    async def put(self, table: Table, rows: Sequence[Row], mark: Mark) -> None:
        """Add rows and remember `mark`, both or neither."""
        async with _filling(self._own):
            if table.name == "event":
                place = table.names.index("occurred_at")
                await make(self._own, {month_of(int(str(row[place]))) for row in rows})
            await self._own.execute("SAVEPOINT part")
            try:
                await self._copy(table, rows)
            except asyncpg.CharacterNotInRepertoireError:
                await self._own.execute("ROLLBACK TO part")
                await self._copy(table, [[_storable(value) for value in row] for row in rows])
            await self._own.execute(_SET_MARK, table.name, _text_of(mark))

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to."""
        async with _filling(self._own):
            return await figures_of(self._own, table)

    async def snapshots(self) -> PostgresSnapshots:
        """Return what proves the database, whose planner knows by then how much there is of what."""
        await self._own.execute("ANALYZE")
        return PostgresSnapshots(self._address)

    async def finish(self) -> None:
        """Let servers open it: fence the tables again, take the marks away."""
        async with _filling(self._own):
            await self._fence("FORCE")
            await self._own.execute("DROP TABLE half_filled")

    async def _copy(self, table: Table, rows: Sequence[Row]) -> None:
        await self._own.copy_records_to_table(
            table.name, schema_name="bursar", columns=table.names, records=rows
        )

    async def _fence(self, how: str) -> None:
        for (name,) in await self._own.fetch(_FENCED):
            await self._own.execute(f'ALTER TABLE "{name}" {how} ROW LEVEL SECURITY')

    async def _refuse_what_is_there(self) -> None:
        for table in await tables_of(self._own):
            if await self._own.fetchval(f'SELECT EXISTS (SELECT FROM "{table.name}")'):
                raise Conflict(
                    f"the database holds a ledger already (table {table.name} has rows); name an empty one"
                )


async def tables_of(own: asyncpg.Connection) -> list[Table]:
    """Return the tables of a ledger, by name."""
    names = [row[0] for row in await own.fetch(_TABLES)]
    return [await _table(own, name) for name in names if name not in OWN]


async def _table(own: asyncpg.Connection, name: str) -> Table:
    rows = await own.fetch(_COLUMNS, name)
    key = sorted((place, column) for column, _, place, _ in rows if place is not None)
    columns = tuple(Column(column, _FORMS[kind]) for column, kind, _, is_derived in rows if not is_derived)
    derived = tuple(sorted(column for column, _, _, is_derived in rows if is_derived))
    return Table(name, columns, tuple(column for _, column in key), derived)


async def figures_of(own: asyncpg.Connection, table: Table) -> ByOrg:
    """Return what a table's rows come to, by organisation."""
    content = " || '|' || ".join(map(_as_text, table.columns))
    digest = f"left(encode(sha256(convert_to({content}, 'UTF8')), 'hex'), {DIGEST_DIGITS})"
    sums = [f'coalesce(sum("{name}"), 0)::text' for name in table.summed]
    asked = ", ".join(
        [f"{table.org}::bigint", "count(*)", f"sum(('x' || {digest})::bit(60)::bigint)::text", *sums]
    )
    found = await own.fetch(f'SELECT {asked} FROM "{table.name}" GROUP BY 1')
    return {row[0]: Figures(row[1], int(row[2]), tuple(map(int, row[3:]))) for row in found}


def _as_text(column: Column) -> str:
    name = f'"{column.name}"'
    if column.form is Form.BLOB:
        return f"coalesce(encode({name}, 'hex'), '~')"
    return f"coalesce({name}::text, '~')"


@asynccontextmanager
async def _filling(own: asyncpg.Connection) -> AsyncIterator[None]:
    await own.execute(FILLING)
    try:
        yield
    except BaseException:
        if not own.is_closed():
            await own.execute("ROLLBACK")
        raise
    await own.execute("COMMIT")


def _storable(value: object) -> object:
    return value.replace(NUL, SHOWN_NUL) if isinstance(value, str) else value


def _text_of(mark: Mark) -> str:
    """Return a mark as JSON: numbers as such, text behind a `t`, bytes in hexadecimal behind a `b`."""
    last = [
        f"b{one.hex()}" if isinstance(one, bytes) else f"t{one}" if isinstance(one, str) else one
        for one in mark.last
    ]
    return msgspec.json.encode([mark.rows, last]).decode()


def _mark_from(text: str) -> Mark:
    rows, last = msgspec.json.decode(text, type=tuple[int, list[int | str]])
    return Mark(rows, tuple(map(_key_part, last)))


def _key_part(part: int | str) -> object:
    if isinstance(part, int):
        return part
    return bytes.fromhex(part[1:]) if part.startswith("b") else part[1:]
