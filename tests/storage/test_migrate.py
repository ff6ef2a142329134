"""The two ways to a schema (alembic's steps, and their statements at once) lead to the same."""

import sqlite3
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
