"""A copy has every table, column and row, and its proof sees whatever is different."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from crowded import crowd

from bursar.core.errors import Conflict, InvalidInput, Unavailable
from bursar.storage.postgres import copies
from bursar.storage.sql.copying import Key, Mark, Row, copy, prove
from bursar.storage.sql.tables import OWN, Table, TableProof
from bursar.storage.sqlite.copies import SqliteSource, SqliteTarget, tables_of
from bursar.storage.sqlite.store import DATABASE_NAME
from support.engines import Database


@asynccontextmanager
async def file_read(path: Path) -> AsyncIterator[SqliteSource]:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN")
        yield SqliteSource(connection)


async def into_database(path: Path, database: Database, origin: str = "test") -> list[TableProof]:
    async with file_read(path) as source, copies.filling(address(database), origin) as target:
        return await prove(source, target, await copy(source, target))


def address(database: Database) -> str:
    return str(database.settings["database_url"])


def differing(proofs: list[TableProof]) -> dict[str, list[int]]:
    return {proof.table.name: proof.differing for proof in proofs if proof.differing}


FEW = 7
"""Rows of a chunk, so that a small ledger has many."""

ONE = "WHERE (org, key) IN (SELECT org, key FROM event WHERE computed_nusd > 0 LIMIT 1)"


@pytest.fixture
def crowded(filled_file: Path) -> Path:
    path = filled_file / DATABASE_NAME
    crowd(path)
    return path


def test_each_table_and_column_of_the_schema_is_known(crowded: Path) -> None:
    with closing(sqlite3.connect(crowded)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        tables = {table.name: table for table in tables_of(connection)}
        assert names - tables.keys() <= OWN
        for table in tables.values():
            all_columns = {row[1] for row in connection.execute(f"PRAGMA table_xinfo('{table.name}')")}
            assert {*table.names, *table.derived} == all_columns
    assert tables["event"].key == ("org", "occurred_at", "key")
    assert {"cost_nusd", "media_tokens"} <= set(tables["event"].derived)


def test_both_engines_keep_the_same(crowded: Path, empty_database: Database) -> None:
    async def both() -> tuple[list[Table], list[Table]]:
        async with file_read(crowded) as source, copies.reading(address(empty_database)) as other:
            return await source.tables(), await other.tables()

    here, there = asyncio.run(both())
    assert [table.name for table in here] == [table.name for table in there]
    assert {table.name: (set(table.columns), table.key, table.derived) for table in here} == {
        table.name: (set(table.columns), table.key, table.derived) for table in there
    }


def test_every_row_arrives_in_postgresql_and_comes_back(
    crowded: Path, empty_database: Database, tmp_path: Path
) -> None:
    proofs = asyncio.run(into_database(crowded, empty_database))
    assert [proof.table.name for proof in proofs if not proof.rows] == []
    assert differing(proofs) == {}

    async def back() -> list[TableProof]:
        async with copies.reading(address(empty_database)) as source:
            target = SqliteTarget(tmp_path / "back.db")
            try:
                return await prove(source, target, await copy(source, target))
            finally:
                target.close()

    assert differing(asyncio.run(back())) == {}
    with closing(sqlite3.connect(crowded)) as one, closing(sqlite3.connect(tmp_path / "back.db")) as other:
        for table in tables_of(one):
            sql = f'SELECT {table.list} FROM "{table.name}" ORDER BY {table.order}'
            assert one.execute(sql).fetchall() == other.execute(sql).fetchall(), table.name


def test_a_new_table_is_moved_without_a_word(crowded: Path, empty_database: Database) -> None:
    with closing(sqlite3.connect(crowded)) as connection, connection:
        connection.execute(
            "CREATE TABLE novelty (org INTEGER, n INTEGER, t TEXT, b BLOB, PRIMARY KEY (org, n))"
        )
        connection.execute("INSERT INTO novelty VALUES (1, 7, 'x', x'00ff'), (2, 8, NULL, NULL)")
    with pytest.raises(InvalidInput, match=r"differ in what they keep \(novelty\)"):
        asyncio.run(into_database(crowded, empty_database))
    assert empty_database.rows("SELECT count(*) FROM organisation") == [(0,)]
    empty_database.rows("CREATE TABLE novelty (t TEXT, b BYTEA, org BIGINT, n BIGINT, PRIMARY KEY (org, n))")
    empty_database.rows("ALTER TABLE novelty OWNER TO bursar")
    asyncio.run(into_database(crowded, empty_database))
    assert empty_database.rows("SELECT org, n, t, b FROM novelty ORDER BY org") == [
        (1, 7, "x", b"\x00\xff"),
        (2, 8, None, None),
    ]


@pytest.mark.parametrize(
    ("change", "table"),
    [
        (f"UPDATE event SET computed_nusd = computed_nusd + 1 {ONE}", "event"),
        ("UPDATE agent SET display_name = 'other' WHERE org = 1 AND agent = 1", "agent"),
        ("UPDATE rollup_agent SET durations = durations || '\\x00'::bytea WHERE org = 1", "rollup_agent"),
        ("DELETE FROM audit WHERE org = 2", "audit"),
        ("UPDATE event SET attributes = NULL WHERE attributes = '{\"row\":1}'", "event"),
        ("UPDATE batch SET hours = 'x' WHERE org = 1 AND seq = 2", "batch"),
    ],
)  # fmt: skip
def test_the_proof_sees_a_change(crowded: Path, empty_database: Database, change: str, table: str) -> None:
    asyncio.run(into_database(crowded, empty_database))
    assert empty_database.change(change) > 0

    async def again() -> list[TableProof]:
        async with file_read(crowded) as source, copies.reading(address(empty_database)) as target:
            return await prove(source, target, await source.tables())  # type: ignore[arg-type]

    assert differing(asyncio.run(again())).keys() == {table}


def test_two_changes_that_leave_every_sum_are_seen(crowded: Path, empty_database: Database) -> None:
    asyncio.run(into_database(crowded, empty_database))
    for sign, seq in (("+", 1), ("-", 2)):
        assert empty_database.change(f"UPDATE audit SET at = at {sign} 1 WHERE org = 1 AND seq = {seq}") == 1

    async def again() -> list[TableProof]:
        async with file_read(crowded) as source, copies.reading(address(empty_database)) as target:
            return await prove(source, target, await source.tables())  # type: ignore[arg-type]

    [odd] = [proof for proof in asyncio.run(again()) if proof.differing]
    assert (odd.table.name, odd.differing) == ("audit", [1])
    assert odd.source[1].sums == odd.target[1].sums


def test_a_nul_is_kept_as_a_sign_of_its_own_and_counted(crowded: Path, empty_database: Database) -> None:
    with closing(sqlite3.connect(crowded)) as connection, connection:
        connection.execute("UPDATE prompt SET text = ?", ("before\x00after\x00",))
        connection.execute("UPDATE agent SET display_name = ? WHERE org = 1 AND agent = 1", ("\x00",))
    proofs = asyncio.run(into_database(crowded, empty_database))
    assert differing(proofs) == {}
    assert {proof.table.name: proof.nuls for proof in proofs if proof.nuls} == {"agent": 1, "prompt": 1}
    assert empty_database.rows("SELECT text FROM prompt") == [("before\ufffdafter\ufffd",)]


class Stopped(Exception):
    """In place of a kill: nothing is run after it."""


async def stopped_after(path: Path, database: Database, chunks: int) -> list[tuple[str, int]]:
    """Copy until so many chunks are in, and return them: table, and rows of it so far."""
    put: list[tuple[str, int]] = []

    class Stopping(copies.PostgresTarget):
        async def put(self, table: Table, rows: list[Row], mark: Mark) -> None:  # type: ignore[override]
            if len(put) == chunks:
                raise Stopped
            await super().put(table, rows, mark)
            put.append((table.name, mark.rows))

    async with file_read(path) as source, copies.connected(address(database)) as own:
        target = Stopping(own, address(database))
        await target.begin("test")
        with pytest.raises(Stopped):
            await copy(source, target, chunk_rows=FEW)
    return put


@pytest.mark.parametrize("chunks", [0, 1, 5, 20, 60])
def test_a_copy_that_was_stopped_goes_on(crowded: Path, empty_database: Database, chunks: int) -> None:
    put = asyncio.run(stopped_after(crowded, empty_database, chunks))
    assert len(put) == chunks
    with pytest.raises(Conflict, match="half filled"):
        empty_database.engine(clock=lambda: 0, canonicalise=lambda provider, model: (provider, model))
    with pytest.raises(Conflict, match="half filled from another source"):
        asyncio.run(into_database(crowded, empty_database, "elsewhere"))
    asked: list[tuple[str, bool]] = []

    class Watched(SqliteSource):
        def chunks(self, table: Table, after: Key | None, size: int) -> AsyncIterator[list[Row]]:  # type: ignore[override]
            asked.append((table.name, after is not None))
            return super().chunks(table, after, size)  # type: ignore[return-value]

    async def go_on() -> list[TableProof]:
        with closing(sqlite3.connect(crowded, isolation_level=None, check_same_thread=False)) as connection:
            source = Watched(connection)
            async with copies.filling(address(empty_database), "test") as target:
                return await prove(source, target, await copy(source, target, chunk_rows=FEW))

    assert differing(asyncio.run(go_on())) == {}
    assert {name for name, resumed in asked if resumed} == {name for name, _ in put}


def test_a_copy_whose_connection_is_cut_is_told_and_goes_on(crowded: Path, empty_database: Database) -> None:
    async def cut() -> None:
        async with file_read(crowded) as source, copies.filling(address(empty_database), "test") as target:
            empty_database.rows(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = ?""",
                copies.APPLICATION,
            )
            await copy(source, target)

    with pytest.raises(Unavailable):
        asyncio.run(cut())
    assert differing(asyncio.run(into_database(crowded, empty_database))) == {}


def test_tables_are_fenced_again_when_it_is_done(crowded: Path, empty_database: Database) -> None:
    def fenced() -> list[tuple[object, ...]]:
        return empty_database.rows(
            """SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
               WHERE relnamespace = 'bursar'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
               ORDER BY relname"""
        )

    before = fenced()
    asyncio.run(into_database(crowded, empty_database))
    assert fenced() == before
    assert (True, True) in {row[1:] for row in before}


def test_a_database_that_holds_something_is_refused(crowded: Path, empty_database: Database) -> None:
    asyncio.run(into_database(crowded, empty_database))
    with pytest.raises(Conflict, match="holds a ledger already"):
        asyncio.run(into_database(crowded, empty_database))


def test_whoever_reads_alone_lets_nobody_write(crowded: Path, empty_database: Database) -> None:
    asyncio.run(into_database(crowded, empty_database))
    engine = empty_database.engine(clock=lambda: 0, canonicalise=lambda provider, model: (provider, model))

    async def refused() -> None:
        await engine.readers.run_short(1, lambda one: one.execute("SELECT 1").fetchone())  # type: ignore[arg-type]
        try:
            with pytest.raises(Conflict, match="stop it first"):
                async with copies.reading(address(empty_database), alone=True):
                    pass
        finally:
            await engine.close()

    async def locked() -> None:
        async with copies.reading(address(empty_database), alone=True) as source:
            tables = await source.tables()
            waiting = asyncio.to_thread(
                empty_database.change, "SET lock_timeout = '50ms'; DELETE FROM audit WHERE org = 99"
            )
            with pytest.raises(Exception, match="lock"):
                await waiting
            assert await source.count(next(one for one in tables if one.name == "audit"))

    asyncio.run(refused())
    asyncio.run(locked())


def test_a_file_may_be_copied_to_a_file(crowded: Path, tmp_path: Path) -> None:
    async def copied() -> list[TableProof]:
        async with file_read(crowded) as source:
            target = SqliteTarget(tmp_path / "other.db")
            try:
                return await prove(source, target, await copy(source, target))
            finally:
                target.close()

    assert differing(asyncio.run(copied())) == {}
