"""The two ways to a schema (alembic's steps, and their statements at once) lead to the same."""

import runpy
import sqlite3
from importlib.resources import files
from pathlib import Path

from bursar.storage.migrations import HEAD
from bursar.storage.sqlite.connection import open_writer
from bursar.storage.sqlite.migrate import migrate, schema_version, upgrade


def schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%' ORDER BY name"
    )
    return rows.fetchall()


def test_an_empty_file_gets_the_schema_that_alembic_would_make(tmp_path: Path) -> None:
    quick = open_writer(tmp_path / "quick.db")
    assert migrate(tmp_path / "quick.db", quick)
    stepwise = open_writer(tmp_path / "stepwise.db")
    upgrade(tmp_path / "stepwise.db")
    assert schema(quick) == schema(stepwise)
    assert schema_version(quick) == schema_version(stepwise) == HEAD
    quick.close()
    stepwise.close()


def test_alembic_finds_nothing_to_do_on_a_file_made_at_once(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "quick.db")
    migrate(tmp_path / "quick.db", connection)
    before = schema(connection)
    upgrade(tmp_path / "quick.db")
    assert schema(connection) == before
    assert not migrate(tmp_path / "quick.db", connection)
    connection.close()


def test_a_file_of_the_first_step_is_brought_forward_and_keeps_its_rows(tmp_path: Path) -> None:
    first = files("bursar.storage.migrations") / "versions" / "0001_foundation.py"
    connection = open_writer(tmp_path / "old.db")
    for statement in runpy.run_path(str(first))["STATEMENTS"]:
        connection.execute(statement)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    connection.execute("""INSERT INTO organisation (org, id, name, zone, currency, cost_basis, created_at)
            VALUES (1, x'01', 'acme', 'UTC', 'USD', 'computed', 5)""")
    assert migrate(tmp_path / "old.db", connection)
    new = open_writer(tmp_path / "new.db")
    migrate(tmp_path / "new.db", new)
    assert schema(connection) == schema(new)
    assert schema_version(connection) == HEAD
    assert connection.execute("SELECT name, created_at FROM organisation").fetchall() == [("acme", 5)]
    connection.close()
    new.close()
