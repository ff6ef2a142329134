from pathlib import Path

from support.program import bursar
from support.server import running_server


def test_a_key_is_made_listed_rotated_and_revoked(ledger: Path) -> None:
    at = ("--data-dir", ledger, "--json")
    options = ("--scope", "read", "--scope", "ingest", "--agent", "coder", "--expires-in-days", "30")
    made = bursar("keys", "create", "ci", *options, *at).document
    assert made["raw_key"].startswith("ak_prod_")
    assert (made["scopes"], made["agent"]) == (["ingest", "read"], "coder")
    rotated = bursar("keys", "rotate", "ci", *at).document
    assert rotated["raw_key"] != made["raw_key"]
    assert bursar("keys", "revoke", rotated["raw_key"], *at).document["id"] == rotated["id"]
    keys = bursar("keys", "list", *at).document["keys"]
    assert [key["is_active"] for key in keys if key["name"] == "ci"] == [False, False]
    assert all("raw_key" not in key for key in keys)


def test_a_revoked_key_stops_at_once_in_a_running_server(alone: Path) -> None:
    with running_server(alone) as server:
        key = bursar("keys", "create", "x", "--scope", "read", "--data-dir", alone).out.strip()
        assert server.get("/v1/events", key=key).status_code == 200
        assert bursar("keys", "revoke", "x", "--data-dir", alone).code == 0
        assert server.get("/v1/events", key=key).status_code == 401


def test_what_goes_wrong_has_an_exit_code_and_a_sentence(alone: Path, tmp_path: Path) -> None:
    unknown = bursar("keys", "revoke", "nobody", "--data-dir", alone)
    assert (unknown.code, unknown.out) == (3, "")
    assert "nobody" in unknown.talk
    wrong_scope = bursar("keys", "create", "x", "--scope", "root", "--data-dir", alone)
    assert (wrong_scope.code, wrong_scope.talk) == (
        2,
        "Error: scopes must be among ingest, read, budgets, admin\n",
    )
    assert bursar("keys", "make").code == 2
    no_org = bursar("keys", "list", "--org", "nobody", "--data-dir", alone)
    assert no_org.code == 3
    no_ledger = bursar("keys", "list", "--data-dir", tmp_path / "none")
    assert no_ledger.code == 3
    assert not (tmp_path / "none").exists()


def test_a_token_that_is_not_the_servers_is_refused(alone: Path) -> None:
    with running_server(alone):
        (alone / "operator.token").write_text("op_" + "0" * 64)
        assert bursar("keys", "list", "--data-dir", alone).code == 4


def test_the_address_of_a_killed_server_is_ignored(alone: Path) -> None:
    with running_server(alone) as server:
        server.kill9()
    assert (alone / "server.json").exists()
    assert bursar("keys", "list", "--data-dir", alone).code == 0
