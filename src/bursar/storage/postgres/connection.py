"""A connection of asyncpg as `storage.sql.ports.Connection`: statements suspend, they do not block."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import asyncpg

from bursar.storage.postgres.dialect import DIALECT
from bursar.storage.postgres.spelling import spelled
from bursar.storage.postgres.suspension import wait_for
from bursar.storage.sql.ports import Cell, Parameters

_NUL = "\x00"
_SHOWN_NUL = "\ufffd"
"""PostgreSQL keeps no NUL in text; what a caller sent with one is kept with this in its place."""

PORTION = 2_000
"""Rows of a stream in memory: few enough for any table, and enough that the way there does not count."""

_streams = count(1)
"""Each has a name of its own: the driver remembers what a text gives, and would take one for another."""


class PostgresRows:
    """`storage.sql.ports.Rows`, all fetched already."""

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def fetchone(self) -> Any:  # noqa: ANN401 - see the port
        """Return the next row, None after the last."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows


class PostgresConnection:
    """`storage.sql.ports.Connection` within a transaction, used beneath `suspension.in_worker`.

    `own` is the driver's connection. `bind` is called before each statement: several
    organisations may share a transaction, and row-level security must know whose turn it is.
    """

    dialect = DIALECT

    def __init__(self, own: asyncpg.Connection, bind: Callable[[], None] = lambda: None) -> None:
        self.own = own
        self._bind = bind

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> PostgresRows:
        """Run one statement; its rows are here when this returns."""
        self._bind()
        statement = spelled(sql)
        values = [storable(value) for value in statement.ordered(parameters)]
        if statement.gives_rows:
            rows = wait_for(self.own.fetch(statement.text, *values))
            return PostgresRows(rows, len(rows))
        status = wait_for(self.own.execute(statement.text, *values))
        return PostgresRows((), _count(status))

    def stream(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a SELECT, `PORTION` at a time, from a cursor that ends with the transaction."""
        self._bind()
        name = f"stream_{next(_streams)}"
        values = [storable(value) for value in parameters]
        wait_for(self.own.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {spelled(sql).text}", *values))
        is_more = True
        while is_more:
            portion = wait_for(self.own.fetch(f"FETCH {PORTION} FROM {name}"))
            is_more = len(portion) == PORTION
            if not is_more:
                # What it sorted would stay in the server's memory as long as the transaction.
                wait_for(self.own.execute(f"CLOSE {name}"))
            yield from map(tuple, portion)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Run one statement for each row of parameters, all sent together."""
        rows = [[storable(value) for value in row] for row in parameters]
        if rows:
            self._bind()
            wait_for(self.own.executemany(spelled(sql).text, rows))

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows to a table that is the connection's own: the way that costs least for many."""
        wait_for(self.own.copy_records_to_table(table, records=rows, columns=columns))

    def listed(self, sql: str, columns: Iterable[str], parameters: Parameters) -> list[tuple[Cell, ...]]:
        """Return `columns` of every row of `sql`; its order is kept."""
        found = self.execute(f"SELECT {', '.join(columns)} FROM ({sql}) AS r", parameters)
        return [tuple(row) for row in found]


def storable(value: Any) -> Any:  # noqa: ANN401 - any parameter
    """Return a parameter as PostgreSQL can keep it."""
    kind = type(value)
    if kind is str:
        return value.replace(_NUL, _SHOWN_NUL) if _NUL in value else value
    if kind is list and _is_text(value) and any(_NUL in text for text in value if text):
        return [storable(text) for text in value]
    return value


def _is_text(column: list[Any]) -> bool:
    """Whether a column holds text: its first value that is one says so for all."""
    return type(next((one for one in column if one is not None), None)) is str


def _count(status: str) -> int:
    """Return how many rows a command tag (`UPDATE 3`, `INSERT 0 1`) speaks of."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
