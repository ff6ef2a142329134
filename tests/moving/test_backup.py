"""`bursar backup` and `bursar restore` on both engines: what they make, and what they refuse."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bursar.storage.migrations.steps import sqlite_steps
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring import verify_file
from support.engines import Database, temporary_database
from support.program import Ran, bursar
from support.server import PROGRAM, environment

TOTALS = """SELECT org, sum(requests), sum(cost_nusd), sum(input_tokens) FROM rollup_agent
    GROUP BY org ORDER BY org"""


def run(database: Database, *arguments: str | Path) -> Ran:
    return bursar(*arguments, "--data-dir", database.folder, **database.environment)


def read(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def backup(filled: Database, tmp_path: Path) -> Path:
    made = run(filled, "backup", tmp_path / "ledger.backup")
    assert made.code == 0, made.talk
    return tmp_path / "ledger.backup"


@pytest.fixture
def other(engine_kind: str, tmp_path: Path) -> Iterator[Database]:
    """Another empty database of the same engine."""
    with temporary_database(engine_kind, tmp_path / "other") as made:
        yield made


def test_a_backup_is_one_file_that_proves_itself(filled: Database, backup: Path) -> None:
    assert verify_file(backup).violations == ()
    assert read(backup, TOTALS) == filled.rows(TOTALS)
    assert read(backup, "PRAGMA journal_mode") == [("delete",)]
    assert oct(backup.stat().st_mode & 0o777) == "0o600"
    assert sorted(path.name for path in backup.parent.glob("*backup*")) == [backup.name]


def test_it_says_what_is_in_it(filled: Database, tmp_path: Path) -> None:
    ran = run(filled, "backup", tmp_path / "b", "--verify", "--json")
    tables = {one["table"]: one for one in ran.document["tables"]}
    [(requests, cost)] = filled.rows("SELECT sum(requests), sum(cost_nusd) FROM rollup_agent")
    assert tables["rollup_agent"]["sums"]["requests"] == requests
    assert tables["rollup_agent"]["sums"]["cost_nusd"] == cost
    assert [(tables["event"]["rows"],)] == filled.rows("SELECT count(*) FROM event")
    assert ran.document["rows"] == sum(one["rows"] for one in ran.document["tables"])
    assert ran.document["verified"] is True
    password = urlsplit(filled.settings.get("database_url", "")).password
    assert password is None or password not in ran.out


def test_a_person_reads_a_table_of_it(filled: Database, tmp_path: Path) -> None:
    ran = run(filled, "backup", tmp_path / "b")
    lines = {line.split()[0]: line.split() for line in ran.out.splitlines() if line.strip()}
    [(requests,)] = filled.rows("SELECT count(*) FROM event")
    assert lines["event"][1] == f"{requests:,}"
    assert "hold" in lines
    assert "webhook" not in lines
    assert f"{tmp_path / 'b'} is made: " in ran.out


def test_it_overwrites_nothing(filled: Database, backup: Path) -> None:
    before = backup.read_bytes()
    ran = run(filled, "backup", backup)
    assert (ran.code, "is there already" in ran.talk) == (1, True)
    assert backup.read_bytes() == before
    link = backup.with_name("link")
    link.symlink_to(backup.with_name("nothing"))
    assert run(filled, "backup", link).code == 1


def test_a_directory_that_is_not_there_is_said(filled: Database, tmp_path: Path) -> None:
    ran = run(filled, "backup", tmp_path / "no" / "b")
    assert (ran.code, "is no directory" in ran.talk) == (2, True)


def test_without_a_ledger_there_is_no_backup(tmp_path: Path) -> None:
    ran = bursar("backup", tmp_path / "b", "--data-dir", tmp_path / "nowhere")
    assert (ran.code, "there is no ledger" in ran.talk) == (2, True)
    assert list(tmp_path.glob("*")) == []


def test_signing_keys_may_be_left_out(filled: Database, tmp_path: Path) -> None:
    secret = os.urandom(32)
    filled.change("INSERT INTO signing_key VALUES ('k', ?, 1, NULL)", secret)
    with_keys, without = tmp_path / "with", tmp_path / "without"
    assert run(filled, "backup", with_keys).code == 0
    ran = run(filled, "backup", without, "--without-signing-keys", "--json")
    assert secret in with_keys.read_bytes()
    assert secret not in without.read_bytes()
    assert "signing_key" not in {one["table"] for one in ran.document["tables"]}
    assert read(without, "SELECT count(*) FROM signing_key") == [(0,)]
    assert verify_file(without).violations == ()


def test_a_full_disk_leaves_nothing_behind(filled: Database, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    command = [*PROGRAM, "backup", str(folder / "b"), "--data-dir", str(filled.folder)]
    ran = subprocess.run(
        ["prlimit", "--fsize=200000", *command],
        env=environment(filled.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, "cannot be written" in ran.stderr) == (6, True), ran.stderr
    assert list(folder.iterdir()) == []


def test_what_was_backed_up_comes_back(filled: Database, backup: Path, other: Database) -> None:
    ran = run(other, "restore", backup, "--json")
    assert ran.code == 0, ran.talk
    assert ran.document["verified"] is True
    assert other.rows(TOTALS) == filled.rows(TOTALS)
    assert other.verify().violations == ()
    asked = ("report", "--by", "agent", "--from", "2026-01-01", "--to", "2026-04-30", "--csv")
    assert run(other, *asked).out == run(filled, *asked).out
    assert "writer" in run(other, *asked).out


def test_it_comes_back_to_where_nothing_is(filled: Database, backup: Path) -> None:
    before = filled.rows(TOTALS)
    ran = run(filled, "restore", backup)
    assert (ran.code, "not empty" in ran.talk or "holds a ledger already" in ran.talk) == (1, True)
    assert filled.rows(TOTALS) == before


def test_a_backup_of_one_engine_is_one_of_the_other(filled: Database, backup: Path, tmp_path: Path) -> None:
    for kind in ("sqlite", "postgres"):
        with temporary_database(kind, tmp_path / f"as-{kind}") as target:
            assert run(target, "restore", backup).code == 0
            assert target.rows(TOTALS) == filled.rows(TOTALS)


@pytest.mark.parametrize("damage", ["UPDATE rollup_agent SET cost_nusd = cost_nusd + 1 WHERE org = 1", None])
def test_what_is_not_exact_does_not_come_back(backup: Path, other: Database, damage: str | None) -> None:
    if damage is None:
        data = bytearray(backup.read_bytes())
        middle = len(data) // 2 // 8192 * 8192
        data[middle : middle + 8192] = bytes(8192)
        backup.write_bytes(data)
    else:
        with closing(sqlite3.connect(backup)) as connection, connection:
            connection.execute(damage)
    ran = run(other, "restore", backup)
    assert (ran.code, "nothing was restored" in ran.talk) == (2, True), ran.talk
    assert not (other.folder / DATABASE_NAME).exists()
    assert list(other.folder.glob(".*")) == []
    if other.kind == "postgres":
        assert other.rows("SELECT count(*) FROM organisation") == [(0,)]


def test_a_damaged_file_is_not_backed_up_or_moved_in_silence(filled_file: Path, tmp_path: Path) -> None:
    path = filled_file / DATABASE_NAME
    with closing(sqlite3.connect(path)) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'agent'")
        connection.execute("PRAGMA journal_mode = DELETE")
    data = bytearray(path.read_bytes())
    data[(page - 1) * 8192 : page * 8192] = bytes(8192)
    path.write_bytes(data)
    made = bursar("backup", tmp_path / "b", "--data-dir", filled_file)
    assert (made.code, "is damaged" in made.talk) == (2, True), made.talk
    moved = bursar("move", "--from", f"sqlite:{filled_file}", "--to", f"sqlite:{tmp_path / 'new'}")
    assert (moved.code, "is damaged" in moved.talk) == (2, True), moved.talk
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "new" / DATABASE_NAME).exists()


def test_what_is_no_ledger_does_not_come_back(other: Database, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database " * 1000)
    with closing(sqlite3.connect(tmp_path / "empty")) as connection:
        connection.execute("CREATE TABLE t (a)")
    for name in ("text", "empty"):
        ran = run(other, "restore", tmp_path / name)
        assert (ran.code, "is no ledger" in ran.talk) == (2, True), ran.talk


def test_a_log_left_beside_a_directory_is_not_replayed_into_it(backup: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"{DATABASE_NAME}-wal").write_bytes(b"of another ledger")
    ran = bursar("restore", backup, "--data-dir", folder)
    assert (ran.code, f"{DATABASE_NAME}-wal lies in it" in ran.talk) == (1, True)


def test_a_backup_of_an_older_release_is_brought_forward(tmp_path: Path) -> None:
    source = tmp_path / "old"
    source.mkdir()
    make_old(source / DATABASE_NAME)
    target = tmp_path / "new"
    ran = bursar("backup", tmp_path / "old.backup", "--data-dir", source)
    assert ran.code == 0, ran.talk
    ran = bursar("restore", tmp_path / "old.backup", "--data-dir", target)
    assert ran.code == 0, ran.talk
    assert verify_file(target).violations == ()


def make_old(path: Path) -> None:
    """Write a ledger as the first release of the schema made it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in sqlite_steps()[0].sqlite:
            connection.execute(statement)
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
