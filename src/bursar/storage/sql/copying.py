"""Copy a ledger from one database to another, and prove that nothing changed on the way.

    Source  →  table by table, in the order of keys, a chunk at a time  →  Target
    Source, Target  →  counts, sums and digests of every organisation in every table  →  TableProof

A target that is durable chunk by chunk keeps with each one how far it has come, so a copy
that was killed goes on there. Not here: the engines' sides (`sqlite.copies`, `postgres.copies`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol

from bursar.storage.sql.tables import ByOrg, Table, TableProof, matched
from bursar.storage.sql.verify_ports import Snapshots

CHUNK_ROWS = 10_000
"""Rows in one COPY and one commit: larger chunks gave nothing, and a killed copy repeats at most one."""

Row = Sequence[object]
Key = tuple[object, ...]
OnProgress = Callable[[int, int], None]
"""Called with how many rows are done and how many there are."""


class Mark(NamedTuple):
    """How far a table has come: rows that are there, and the key of the last one."""

    rows: int
    last: Key


class Source(Protocol):
    """A ledger that is read on one snapshot."""

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        ...

    async def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        ...

    def chunks(self, table: Table, after: Key | None, size: int) -> AsyncIterator[Sequence[Row]]:
        """Yield its rows in order of their key, those behind `after`, `size` at a time."""
        ...

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to."""
        ...


class Target(Protocol):
    """A ledger that is being filled."""

    async def tables(self) -> list[Table]:
        """Return what it is made of."""
        ...

    async def mark(self, table: Table) -> Mark | None:
        """Return how far the table has come, None when it has not begun."""
        ...

    async def put(self, table: Table, rows: Sequence[Row], mark: Mark) -> None:
        """Add rows and remember `mark`, both or neither."""
        ...

    async def figures(self, table: Table) -> ByOrg:
        """Return what its rows come to."""
        ...

    async def snapshots(self) -> Snapshots:
        """Return what proves it, once every row is there."""
        ...


async def copy(
    source: Source, target: Target, on_progress: OnProgress | None = None, *, chunk_rows: int = CHUNK_ROWS
) -> list[Table]:
    """Copy every table, going on where an earlier call was killed; return the tables.

    Raises:
        InvalidInput: The two do not keep the same; nothing was copied.
    """
    tables = matched(await source.tables(), await target.tables())
    total = sum([await source.count(table) for table in tables])
    done = 0
    for table in tables:
        mark = await target.mark(table) or Mark(0, ())
        done += mark.rows
        async for rows in source.chunks(table, mark.last or None, chunk_rows):
            mark = Mark(mark.rows + len(rows), table.key_of(rows[-1]))
            await target.put(table, rows, mark)
            done += len(rows)
            if on_progress is not None:
                on_progress(done, total)
    return tables


async def prove(
    source: Source, target: Target, tables: Sequence[Table], on_progress: OnProgress | None = None
) -> list[TableProof]:
    """Look at every row on both sides; return what they come to, table by table."""
    proofs = []
    total = sum([await source.count(table) for table in tables])
    done = 0
    for table in tables:
        here, there = await asyncio.gather(source.figures(table), target.figures(table))
        proofs.append(TableProof(table, here, there))
        done += proofs[-1].rows
        if on_progress is not None:
            on_progress(done, total)
    return proofs
