"""Commands on a PostgreSQL database: beside its servers, through one, and never with a password told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.core.addresses import without_password
from support.engines import Database, temporary_database
from support.program import Ran, bursar
from support.server import running_server

NOWHERE = "postgresql://bursar:hidden-word@127.0.0.1:1/nothing"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    with temporary_database("postgres", tmp_path / "data") as made:
        yield made


def run(shared: Database, *arguments: str, folder: Path | None = None) -> Ran:
    return bursar(*arguments, "--data-dir", folder or shared.folder, **shared.environment)


def test_an_organisation_is_made_and_a_command_opens_the_database_beside_a_server(
    shared: Database, tmp_path: Path
) -> None:
    made = run(shared, "init", "--org", "acme", "--json")
    assert (made.code, made.document["org"]) == (0, "acme")
    with running_server(shared) as server:
        answer = server.post("/v1/ingest", {"events": []}, key=made.document["ingest_key"])
        assert answer.status_code in {200, 202, 422}
        through, beside = (
            run(shared, "status", "--json"),
            run(shared, "status", "--json", folder=tmp_path / "b"),
        )
        assert through.document["server"] == server.base_url
        assert beside.document["server"] is None
        assert beside.document["engine"] == through.document["engine"]
        assert run(shared, "keys", "create", "ci", folder=tmp_path / "b").code == 0
        assert "ci" in run(shared, "keys", "list").out
        assert server.is_running


def test_another_ledger_s_server_in_the_same_directory_is_not_asked(shared: Database) -> None:
    with running_server(shared.folder) as server:
        found = run(shared, "status", "--json").document
        assert found["server"] is None
        assert found["engine"].startswith("postgresql")
        assert bursar("status", "--data-dir", shared.folder, "--json").document["server"] == server.base_url


def test_doctor_looks_at_the_database(shared: Database) -> None:
    assert run(shared, "init").code == 0
    ran = run(shared, "doctor", "--json")
    found = {check["name"]: (check["state"], check["found"]) for check in ran.document["checks"]}
    assert ran.code == 0, ran.out
    assert found["database"][1].startswith("postgresql ")
    for name in ("durability", "role", "schema", "connections", "clocks", "token", "server"):
        assert found[name][0] == "ok", (name, found[name])
    assert {"sqlite", "lock", "directory"}.isdisjoint(found)


@pytest.mark.parametrize(
    "command",
    [("doctor",), ("doctor", "--json"), ("report",), ("init",), ("check-config",), ("keys", "list")],
)
def test_no_command_tells_the_password(command: tuple[str, ...], tmp_path: Path) -> None:
    ran = bursar(*command, "--data-dir", tmp_path / "data", BURSAR_DATABASE_URL=NOWHERE)
    assert "hidden-word" not in ran.out + ran.talk
    assert "127.0.0.1:1/nothing" in ran.out + ran.talk
    assert ran.code == (0 if command[0] == "check-config" else 1 if command[0] == "doctor" else 6)


@pytest.mark.parametrize(
    "address", ["mysql://u:hidden-word@h/d", "postgresql://u:hidden-word/x@h/d", "hidden-word"]
)
def test_a_wrong_address_is_refused_without_showing_it(address: str) -> None:
    ran = bursar("serve", "--port", "0", BURSAR_DATABASE_URL=address)
    assert (ran.code, "hidden-word" in ran.talk) == (2, False)
    assert "postgresql://user:password@host:5432/bursar" in ran.talk


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:secret@h:5/d", "postgresql://u:…@h:5/d"),
        ("cannot reach postgres://u:s/e@c@h/d now", "cannot reach postgres://u:…@h/d now"),
        ("postgresql://h/d?user=u&password=secret&a=b", "postgresql://h/d?user=u&password=…&a=b"),
        ("http://127.0.0.1:8317/v1/x", "http://127.0.0.1:8317/v1/x"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("", ""),
    ],
)
def test_a_password_is_cut_from_an_address_and_nothing_else(text: str, shown: str) -> None:
    assert without_password(text) == shown
