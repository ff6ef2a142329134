from contextlib import ExitStack
from pathlib import Path

from support.program import bursar, cold
from support.server import running_server


def test_init_prints_one_document_with_keys_that_work(ledger: Path) -> None:
    made = cold("init", "--data-dir", ledger, "--org", "Zürich AG", "--zone", "Europe/Zurich", "--json")
    assert (made.code, made.talk) == (0, "")
    assert made.document["org_id"].startswith("org_")
    assert made.document["ingest_key"].startswith("ak_local_")
    listed = bursar("keys", "list", "--data-dir", ledger, "--org", "Zürich AG", "--json").document["keys"]
    assert [(key["name"], key["scopes"]) for key in listed] == [
        ("first ingest key", ["ingest", "read"]),
        ("first admin key", ["admin"]),
    ]
    with ExitStack() as stack:
        if not (ledger / "server.json").exists():
            server = stack.enter_context(running_server(ledger))
            assert server.ingest_key is None
            assert len(server.get("/v1/keys", key=made.document["admin_key"]).json()["keys"]) == 2
            assert server.get("/v1/keys", key=made.document["ingest_key"]).status_code == 403


def test_a_name_that_is_taken_is_refused_with_a_hint(ledger: Path) -> None:
    again = bursar("init", "--data-dir", ledger, "--org", "default", "--json")
    assert (again.code, again.out) == (1, "")
    assert "keys create --org default" in again.talk


def test_a_zone_that_does_not_exist_is_a_wrong_call(tmp_path: Path) -> None:
    ran = bursar("init", "--data-dir", tmp_path / "data", "--zone", "Europe/Atlantis")
    assert ran.code == 2
    assert "Europe/Atlantis" in ran.talk
    assert not (tmp_path / "data").exists()


def test_only_the_operator_makes_organisations(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        made = bursar("init", "--data-dir", tmp_path / "data", "--org", "two", "--json").document
        refused = server.post("/v1/organisations", {"name": "three"}, key=made["admin_key"])
        assert refused.status_code == 403
        assert server.client.post("/v1/organisations", json={"name": "three"}).status_code == 401
        assert [one["name"] for one in server.get("/v1/organisations").json()["data"]] == ["default", "two"]


def test_an_owner_is_made_at_once_and_the_token_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    owner = ("--email", "Alice@Example.com", "--password", "correct horse battery")
    made = bursar("init", "--data-dir", data, "--org", "acme", *owner, "--json").document
    assert made["owner_email"] == "alice@example.com"
    (listed,) = bursar("users", "list", "--data-dir", data, "--json").document["data"]
    assert (listed["email"], listed["role"], listed["verified"]) == ("alice@example.com", "owner", True)
    again = bursar("init", "--data-dir", data, "--org", "second", *owner, "--json").document
    with running_server(data) as server:
        for token in (made["owner_token"], again["owner_token"]):
            assert len(server.get("/v1/keys", key=token, org="second").json()["keys"]) == 2
        assert server.get("/v1/keys", key=again["owner_token"], org="nobodys").status_code == 404


def test_an_owner_who_cannot_be_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for owner in (["--email", "a@b.example"], ["--email", "nobody", "--password", "correct horse battery"],
                  ["--email", "a@b.example", "--password", "password"]):  # fmt: skip
        ran = bursar("init", "--data-dir", data, *owner)
        assert (ran.code, ran.out) == (2, "")
        assert not data.exists()
