"""One schema on two engines: the same tables, columns and keys, and each key begins with its organisation."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.storage.migrations.baseline import GLOBAL_TABLES
from bursar.storage.sqlite.connection import open_writer
from bursar.storage.sqlite.migrate import migrate
from support.engines import Database, PostgresDatabase

GLOBAL_KEYS = {
    # An invitation is found by its secret, a membership by the person: before the organisation is known.
    ("invitation", ("hash",)),
    ("membership", ("user", "created_at", "org")),
    # Asked by all processes for all organisations at once.
    ("change_mark", ("xact",)),
}
OF_AN_ENGINE = {"alembic_version", "schema_step"}
KINDS = {"INTEGER": {"bigint", "smallint"}, "BLOB": {"bytea"}, "TEXT": {"text"}}
_PART = re.compile(r"(event_key_\d+|event_\d{4}_\d{2}|event_early|event_late)(_|$)")

_COLUMNS = """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, o.collname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'bursar'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_collation o ON o.oid = a.attcollation
    WHERE c.relkind IN ('r', 'p')"""
_KEYS = """SELECT t.relname, array_agg(a.attname ORDER BY k.place), i.indisunique, i.indpred::text
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number
    WHERE n.nspname = 'bursar' GROUP BY i.indexrelid, t.relname, i.indisunique, i.indpred::text"""
_FENCES = """SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
        SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'bursar'
    WHERE c.relkind IN ('r', 'p')"""

Key = tuple[str, tuple[str, ...]]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "schema.db")
    migrate(tmp_path / "schema.db", connection)
    connection.row_factory = None
    yield connection
    connection.close()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresDatabase]:
    made = PostgresDatabase(tmp_path / "data")
    yield made
    made.drop()


def sqlite_columns(file: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, bool]]:
    tables = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        (table, row[1]): (row[2], bool(row[3] or row[5]))
        for (table,) in tables
        if table not in OF_AN_ENGINE
        for row in file.execute(f"SELECT * FROM pragma_table_xinfo('{table}')")
    }


def sqlite_keys(file: sqlite3.Connection) -> set[tuple[Key, bool, bool]]:
    """Every key and index: its table and columns, whether it is unique, whether it is partial."""
    found: set[tuple[Key, bool, bool]] = set()
    for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table in OF_AN_ENGINE:
            continue
        for _, name, unique, _, partial in file.execute(
            f"SELECT * FROM pragma_index_list('{table}')"
        ).fetchall():
            columns = tuple(row[2] for row in file.execute(f"SELECT * FROM pragma_index_info('{name}')"))
            found.add(((table, columns), bool(unique), bool(partial)))
        primary = file.execute(f"SELECT name, pk FROM pragma_table_info('{table}') WHERE pk ORDER BY pk")
        found.add(((table, tuple(row[0] for row in primary)), True, False))
    return found


def postgres_keys(database: Database) -> set[tuple[Key, bool, bool]]:
    return {
        ((table, tuple(columns)), unique, predicate is not None)
        for table, columns, unique, predicate in database.rows(_KEYS)
        if table not in OF_AN_ENGINE and not _PART.match(table)
    }


def test_both_engines_have_the_same_tables_and_columns(
    file: sqlite3.Connection, postgres: PostgresDatabase
) -> None:
    mine = sqlite_columns(file)
    theirs = {
        (table, column): (kind, needed)
        for table, column, kind, needed, _ in postgres.rows(_COLUMNS)
        if table not in OF_AN_ENGINE and not _PART.match(table)
    }
    assert mine.keys() == theirs.keys()
    unpacked = {"cost_nusd", "is_error", "billing", "source", "media_tokens", "web_searches"}
    for where, (kind, needed) in mine.items():
        assert theirs[where][0] in KINDS[kind], where
        is_generated = where[0] in {"event", "entry"} and where[1] in unpacked
        assert is_generated or theirs[where][1] == needed, where


def test_both_engines_have_the_same_keys(file: sqlite3.Connection, postgres: PostgresDatabase) -> None:
    assert sqlite_keys(file) == postgres_keys(postgres)


def test_every_key_begins_with_the_organisation_in_a_file(file: sqlite3.Connection) -> None:
    assert strangers(key for key, *_ in sqlite_keys(file)) == GLOBAL_KEYS


def test_every_key_begins_with_the_organisation_in_a_database(postgres: PostgresDatabase) -> None:
    keys = {(table, tuple(columns)) for table, columns, *_ in postgres.rows(_KEYS)}
    assert len(keys) > 100
    assert strangers(keys) == GLOBAL_KEYS


def strangers(keys: Iterator[Key] | set[Key]) -> set[Key]:
    """Return the keys of tables of organisations that begin with something else."""
    return {
        (table, columns)
        for table, columns in keys
        if table not in GLOBAL_TABLES | OF_AN_ENGINE and columns[0] != "org"
    }


def test_row_level_security_is_forced_on_every_table_of_organisations_and_on_no_other(
    postgres: PostgresDatabase,
) -> None:
    fenced = dict(postgres.rows(_FENCES))
    assert {table for table, is_fenced in fenced.items() if not is_fenced} == GLOBAL_TABLES | {"schema_step"}
    assert {"event", "event_key_15", "event_late", "budget_window"} <= fenced.keys()


def test_text_is_in_the_order_of_its_bytes_on_both_engines(postgres: PostgresDatabase) -> None:
    odd = {
        (table, column): order
        for table, column, kind, _, order in postgres.rows(_COLUMNS)
        if kind == "text" and order != "C"
    }
    assert odd == {}
