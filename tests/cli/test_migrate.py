"""`bursar migrate`: what is to be run, what was, and what a server says that finds it was not."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bursar.storage.migrations import HEAD
from bursar.storage.sqlite.store import DATABASE_NAME
from support.engines import Database, PostgresDatabase
from support.program import bursar
from support.server import running_server


def test_the_first_run_makes_the_schema_and_the_next_finds_nothing(database: Database) -> None:
    first = bursar("migrate", "--data-dir", database.folder, **database.environment)
    assert first.code == 0, first.talk
    again = bursar("migrate", "--data-dir", database.folder, **database.environment)
    assert "Nothing was to be run." in again.out
    shown = bursar("migrate", "--plan", "--json", "--data-dir", database.folder, **database.environment)
    assert shown.document["ran"] == []
    assert shown.document["steps"][-1]["step"] == HEAD
    assert all(step["is_applied"] for step in shown.document["steps"])
    table = bursar("migrate", "--plan", "--data-dir", database.folder, **database.environment)
    assert "Nothing to run: the schema is the newest." in table.out


@pytest.fixture
def behind(database: Database) -> Database:
    """A database that lacks the last step."""
    assert bursar("migrate", "--data-dir", database.folder, **database.environment).code == 0
    if isinstance(database, PostgresDatabase):
        database.rows("DROP TABLE change_mark")
        database.change("DELETE FROM schema_step WHERE step = ?", HEAD)
    else:
        database.release()
        with closing(sqlite3.connect(database.folder / DATABASE_NAME)) as file, file:
            file.execute("DROP TABLE change_mark")
            file.execute("UPDATE alembic_version SET version_num = '0006'")
    return database


def test_the_plan_tells_what_is_missing_and_changes_nothing(behind: Database) -> None:
    for _ in range(2):
        shown = bursar("migrate", "--plan", "--data-dir", behind.folder, **behind.environment)
        assert "1 to run." in shown.out
        assert "not yet" in shown.out
    ran = bursar("migrate", "--phase", "pre", "--json", "--data-dir", behind.folder, **behind.environment)
    assert ran.code == 0, ran.talk
    assert ran.document["ran"] == [HEAD]
    assert f"{HEAD} pre: marks" in ran.talk
    assert all(step["is_applied"] for step in ran.document["steps"])


def test_the_second_half_waits_for_the_first(behind: Database) -> None:
    ran = bursar("migrate", "--phase", "post", "--data-dir", behind.folder, **behind.environment)
    if behind.kind == "postgres":
        assert ran.code != 0
        assert "run `bursar migrate --phase pre` first" in ran.talk
    else:  # a file has one process, and both halves at once
        assert ran.code == 0, ran.talk


def test_a_server_begins_on_a_file_that_is_behind_and_refuses_a_database_that_is(behind: Database) -> None:
    if behind.kind == "postgres":
        refused = bursar("serve", "--port", "0", "--data-dir", behind.folder, **behind.environment)
        assert refused.code != 0
        assert "run `bursar migrate`" in refused.talk
        assert bursar("migrate", "--data-dir", behind.folder, **behind.environment).code == 0
    with running_server(behind) as server:
        assert server.get("/v1/status").json()["database"] == "ok"


def test_a_file_that_a_newer_release_has_written_is_refused(tmp_path: Path) -> None:
    assert bursar("migrate", "--data-dir", tmp_path).code == 0
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9001'")
    refused = bursar("migrate", "--data-dir", tmp_path)
    assert refused.code != 0
    assert "newer than this release knows" in refused.talk


def test_a_file_that_a_server_has_open_is_left_to_it(tmp_path: Path) -> None:
    with running_server(tmp_path / "data"):
        refused = bursar("migrate", "--data-dir", tmp_path / "data")
        assert refused.code != 0
        assert "in use by another bursar process" in refused.talk
