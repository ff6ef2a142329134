"""A SQLite file as one side of a copy: read on one snapshot, or filled from nothing.

    SqliteSource(connection)                 a ledger that is read
    SqliteTarget(path)  →  a new file        filled without a journal: it counts when it is whole

Not here: what is copied and in what order (`sql.copying`), copies page by page (`sqlite.backup`).
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bursar.storage.sql.copying import Key, Mark, Row
from bursar.storage.sql.tables import NUL, OWN, SHOWN_NUL, ByOrg, Column, Figures, Form, Table
from bursar.storage.sqlite.connection import PAGE_BYTES, SqliteConnection
from bursar.storage.sqlite.migrate import migrate
from bursar.storage.sqlite.snapshots import SqliteSnapshots

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
_COLUMNS = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)"
_GENERATED = {2, 3}
DIGEST_DIGITS = 15
"""Hexadecimal digits of a row's digest that enter the sum: 60 bits, as PostgreSQL has no unsigned number."""


class SqliteSource:
    """`sql.copying.Source` over an open connection, whose transaction it reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        connection.create_aggregate("content", 1, _Content)  # type: ignore[arg-type] # any value

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        return tables_of(self.connection)

    async def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        return int(self.connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])

    async def chunks(self, table: Table, after: Key | None, size: int) -> AsyncIterator[Sequence[Row]]:
        """Yield its rows in order of their key, those behind `after`, `size` at a time."""
        places = ", ".join("?" * len(table.key))
        behind = "" if after is None else f"WHERE ({table.order}) > ({places})"
        cursor = self.connection.cursor()
        cursor.row_factory = None
        cursor.execute(
            f'SELECT {table.list} FROM "{table.name}" {behind} ORDER BY {table.order}', after or ()
        )
        # The next chunk is read while the target is busy with this one.
        coming = asyncio.create_task(asyncio.to_thread(cursor.fetchmany, size))
        try:
            while rows := await coming:
                coming = asyncio.create_task(asyncio.to_thread(cursor.fetchmany, size))
                yield rows
        finally:
            await asyncio.wait([coming])
            cursor.close()

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to; a NUL is taken for what the other engine keeps in its place."""
        return await asyncio.to_thread(figures_of, self.connection, table)


class SqliteTarget:
    """`sql.copying.Target`: a file that does not exist yet, made with the newest schema."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(
            path, factory=SqliteConnection, isolation_level=None, check_same_thread=False
        )
        self._source = SqliteSource(self._connection)
        for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF"):
            self._connection.execute(f"PRAGMA {pragma}")
        migrate(path, self._connection)

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        return await self._source.tables()

    async def mark(self, table: Table) -> Mark | None:  # noqa: ARG002
        """Return None: a file that was left half filled is filled anew."""
        return None

    async def put(self, table: Table, rows: Sequence[Row], mark: Mark) -> None:  # noqa: ARG002
        """Add rows."""
        await asyncio.to_thread(self._put, table, rows)

    def _put(self, table: Table, rows: Sequence[Row]) -> None:
        places = ", ".join("?" * len(table.columns))
        self._connection.execute("BEGIN")
        self._connection.executemany(f'INSERT INTO "{table.name}" ({table.list}) VALUES ({places})', rows)
        self._connection.execute("COMMIT")

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to."""
        return await self._source.figures(table)

    async def snapshots(self) -> SqliteSnapshots:
        """Return what proves the file."""
        return SqliteSnapshots(self._path)

    def close(self) -> None:
        """Close the file; the caller syncs it and gives it its name."""
        self._connection.close()


def tables_of(connection: sqlite3.Connection) -> list[Table]:
    """Return the tables of an open ledger, by name."""
    names = sorted(row[0] for row in connection.execute(_TABLES))
    return [_table(connection, name) for name in names if name not in OWN]


def _table(connection: sqlite3.Connection, name: str) -> Table:
    rows = [tuple(row) for row in connection.execute(_COLUMNS, (name,))]
    columns = [Column(column, Form(form)) for column, form, _, hidden in rows if hidden not in _GENERATED]
    key = sorted((place, column) for column, _, place, _ in rows if place)
    derived = tuple(sorted(column for column, _, _, hidden in rows if hidden in _GENERATED))
    return Table(name, tuple(columns), tuple(column for _, column in key), derived)


def figures_of(connection: sqlite3.Connection, table: Table, *, with_content: bool = True) -> ByOrg:
    """Return what a table's rows come to, by organisation; 0 for their content where it is not asked for.

    Sums are taken in two halves of 32 bits: those of times would leave 64 bits, which SQLite refuses.
    """
    halves = [f'sum("{name}" >> 32), sum("{name}" & 4294967295)' for name in table.summed]
    texts = [one.name for one in table.columns if one.form is Form.TEXT]
    nuls = " + ".join(f'coalesce(instr("{name}", char(0)) > 0, 0)' for name in texts) or "0"
    content = " || '|' || ".join(map(_as_text, table.columns))
    digest = f"content({content})" if with_content else "0"
    asked = ", ".join([table.org, "count(*)", digest, f"sum({nuls})", *halves])
    cursor = connection.cursor()
    cursor.row_factory = None
    found = cursor.execute(f'SELECT {asked} FROM "{table.name}" GROUP BY 1')
    return {row[0]: _figures(row) for row in found}


def _figures(row: Sequence[int]) -> Figures:
    _, rows, content, nuls, *halves = row
    sums = tuple(
        ((high or 0) << 32) + (low or 0) for high, low in zip(halves[::2], halves[1::2], strict=True)
    )
    return Figures(rows, int(content), sums, nuls)


def _as_text(column: Column) -> str:
    name = f'"{column.name}"'
    if column.form is Form.BLOB:
        # Not coalesce: SQLite's hex(NULL) is the empty text.
        return f"CASE WHEN {name} IS NULL THEN '~' ELSE lower(hex({name})) END"
    return f"coalesce({name}, '~')"


class _Content:
    """SQL aggregate: the sum of the digests of texts."""

    def __init__(self) -> None:
        self._sum = 0

    def step(self, text: str) -> None:
        """Add one row; SQLite's own `replace` looks for no NUL."""
        self._sum += int(
            hashlib.sha256(text.replace(NUL, SHOWN_NUL).encode()).hexdigest()[:DIGEST_DIGITS], 16
        )

    def finalize(self) -> str:
        """Return the sum as text: it may leave 64 bits."""
        return str(self._sum)
