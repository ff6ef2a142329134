"""`bursar move`: the ledger goes on elsewhere, exact, and its old place says so; killed, it goes on."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from audited_ledger import AuditedLedger, event
from crowded import crowd

from bursar.storage.postgres import copies
from bursar.storage.sqlite.moved import MOVED_NAME
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring import verify_file
from bursar.wiring.places import FilePlace
from support.desk import event as sent_event
from support.engines import Database, temporary_database
from support.program import Ran, bursar
from support.server import PROGRAM, environment, running_server

LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
KILLS = 20 if LONG else 3
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
MANY = 30_000

TOTALS = """SELECT org, sum(requests), sum(cost_nusd), sum(input_tokens) FROM rollup_agent
    GROUP BY org ORDER BY org"""


def place(database: Database) -> str:
    return str(database.settings.get("database_url") or f"sqlite:{database.folder}")


def move(source: str | Path, target: str | Path, *more: str) -> Ran:
    here, there = (f"sqlite:{one}" if isinstance(one, Path) else one for one in (source, target))
    return bursar("move", "--from", here, "--to", there, *more)


@pytest.fixture
def target(engine_kind: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database of either engine, beside the one that is moved."""
    with temporary_database(engine_kind, tmp_path / "target") as made:
        yield made


def test_a_ledger_is_moved_to_either_engine_and_back(
    filled_file: Path, target: Database, tmp_path: Path
) -> None:
    moved = move(filled_file, place(target))
    assert (moved.code, "row for row, and that is exact" in moved.out) == (0, True), moved.talk
    assert target.verify().violations == ()
    target.release()
    back = move(place(target), tmp_path / "back", "--json")
    assert back.code == 0, back.talk
    assert verify_file(tmp_path / "back").violations == ()
    assert back.document["verified"] is True


def test_a_ledger_is_moved_from_one_database_to_another(
    filled_file: Path, empty_database: Database, tmp_path: Path
) -> None:
    assert move(filled_file, place(empty_database)).code == 0
    with temporary_database("postgres", tmp_path / "second") as second:
        empty_database.release()
        moved = move(place(empty_database), place(second))
        assert moved.code == 0, moved.talk
        assert second.rows(TOTALS) == empty_database.rows(TOTALS)
        assert second.verify().violations == ()


def test_the_proof_names_every_table(filled_file: Path, target: Database) -> None:
    tables = [table.name for table in crowd(filled_file / DATABASE_NAME)]
    moved = move(filled_file, place(target), "--json")
    assert [one["table"] for one in moved.document["tables"]] == tables
    assert all(one["rows"] and one["content"] for one in moved.document["tables"])


def test_what_was_not_exact_is_moved_as_it_is_and_said(filled_file: Path, target: Database) -> None:
    with closing(sqlite3.connect(filled_file / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE agent_total SET cost_nusd = cost_nusd + 1 WHERE org = 1")
    moved = move(filled_file, place(target), "--json")
    assert (moved.code, moved.document["verified"]) == (1, False)
    assert "is not exact, and was not before" in moved.talk
    assert {one.check for one in target.verify().violations} == {"totals"}


def test_a_server_goes_on_where_the_ledger_lies_now(filled_file: Path, target: Database) -> None:
    before = bursar("report", "--by", "agent", "--from", "2026-02-01", "--csv", "--data-dir", filled_file)
    token = (filled_file / "operator.token").read_text()
    assert move(filled_file, place(target)).code == 0
    # The directory stays what the operator's token lies in, where a database holds the ledger.
    folder = filled_file if target.kind == "postgres" else target.folder
    with running_server(folder, **target.environment) as server:
        assert (server.token == token) == (target.kind == "postgres")
        after = bursar("report", "--by", "agent", "--from", "2026-02-01", "--csv", "--data-dir", folder,
                       **target.environment)  # fmt: skip
        assert after.out == before.out
        key = bursar("keys", "create", "new", "--data-dir", folder, **target.environment).out.strip()
        sent = server.post("/v1/ingest", {"events": [sent_event()]}, key=key)
        assert sent.status_code == 202, sent.text
    assert target.verify().violations == ()


def test_the_old_place_says_where_it_went_and_can_be_taken_back(filled_file: Path, target: Database) -> None:
    content = (filled_file / DATABASE_NAME).read_bytes()
    assert move(filled_file, place(target)).code == 0
    assert (filled_file / DATABASE_NAME).read_bytes() == content
    for command in (("serve", "--port", "0"), ("report",)):
        ran = bursar(*command, "--data-dir", filled_file)
        assert ran.code == 1
        assert f"The ledger was moved to {place(target).partition(':')[0]}:" in ran.talk
        assert f"delete {filled_file / MOVED_NAME}" in ran.talk
    (filled_file / MOVED_NAME).unlink()
    assert bursar("report", "--data-dir", filled_file).code == 0


def test_a_source_that_a_server_works_on_is_refused(target: Database, tmp_path: Path) -> None:
    with running_server(tmp_path / "busy") as server:
        ran = move(tmp_path / "busy", place(target))
        assert (ran.code, "stop it, then run this again" in ran.talk) == (6, True)
        assert server.get("/v1/status").status_code == 200
    assert not (tmp_path / "busy" / MOVED_NAME).exists()
    assert move(tmp_path / "busy", place(target)).code == 0


def test_a_target_that_holds_a_ledger_is_refused(filled_file: Path, filled: Database) -> None:
    before = filled.rows(TOTALS)
    ran = move(filled_file, place(filled))
    assert (ran.code, "not empty" in ran.talk or "holds a ledger already" in ran.talk) == (1, True), ran.talk
    assert filled.rows(TOTALS) == before
    assert not (filled_file / MOVED_NAME).exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("mysql://x", "sqlite:DIRECTORY or postgresql"),
        ("sqlite:", "sqlite:DIRECTORY or postgresql"),
        ("sqlite:{tmp}/nothing", "there is no ledger"),
        ("sqlite:{tmp}/a.file", "is a file, and no data directory"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "127.0.0.1:1/none does not answer"),
        ("sqlite:{tmp}/target", "another place than its own"),
    ],
)
def test_a_source_that_is_none_is_said(source: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.file").touch()
    ran = move(source.format(tmp=tmp_path), tmp_path / "target")
    assert (ran.code in {2, 6}, sentence in ran.talk) == (True, True), ran.talk
    assert "secret" not in ran.talk
    assert not (tmp_path / "target" / DATABASE_NAME).exists()


@pytest.mark.long
def test_a_move_that_is_killed_goes_on(tmp_path: Path, empty_database: Database) -> None:
    source = tmp_path / "source"
    ledger = AuditedLedger(source)
    for start in range(0, MANY, 1_000):
        ledger.post([event(f"e{n}", ledger.now + n, reported_nusd=n) for n in range(start, start + 1_000)])
    totals = ledger.rows(TOTALS)
    ledger.close()
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    command = [*PROGRAM, "move", "--from", f"sqlite:{source}", "--to", place(empty_database)]
    half = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, env=environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and rows(empty_database) <= half:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        half = rows(empty_database)
        if not is_half_filled(empty_database):
            break
    assert half, "no kill fell into the copy"
    if is_half_filled(empty_database):
        refused = bursar("report", "--data-dir", source)
        assert (refused.code, "run `bursar move` again" in refused.talk) == (1, True), refused.talk
        refused = bursar("report", "--data-dir", tmp_path / "x", BURSAR_DATABASE_URL=place(empty_database))
        assert (refused.code, "half filled" in refused.talk) == (1, True), refused.talk
        finished = bursar(*command[len(PROGRAM) :])
        assert finished.code == 0, finished.talk
    assert empty_database.rows(TOTALS) == totals
    assert empty_database.rows("SELECT count(*) FROM event") == [(MANY,)]
    assert empty_database.verify().violations == ()


def is_half_filled(database: Database) -> bool:
    return bool(database.rows("SELECT to_regclass('bursar.half_filled') IS NOT NULL")[0][0])


def rows(database: Database) -> int:
    """How many events are there; 0 before there is anything."""
    return int(database.rows("SELECT count(*) FROM event")[0][0])


class Stopped(Exception):
    """In place of a kill."""


async def stopped(source: Path, target: Database) -> None:
    """Begin a move, and no more."""
    with pytest.raises(Stopped):
        async with copies.filling(place(target), f"move {FilePlace(source).origin()}"):
            raise Stopped


@pytest.mark.parametrize("change", ["another event", "another place", None])
def test_a_source_that_has_changed_since_is_refused(
    filled_file: Path, empty_database: Database, change: str | None
) -> None:
    asyncio.run(stopped(filled_file, empty_database))
    assert is_half_filled(empty_database)
    if change == "another event":
        ledger = AuditedLedger(filled_file)
        ledger.post([event("one more")])
        ledger.close()
    elif change == "another place":
        filled_file = filled_file.rename(filled_file.with_name("elsewhere"))
    ran = move(filled_file, place(empty_database))
    assert ran.code == (0 if change is None else 1), ran.talk
    assert ("the source has changed since" in ran.talk) == (change is not None)
