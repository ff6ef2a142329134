from pathlib import Path

from support.program import bursar
from support.server import running_server


def states(document: dict[str, object]) -> dict[str, str]:
    checks = document["checks"]
    assert isinstance(checks, list)
    return {check["name"]: check["state"] for check in checks}


def test_a_healthy_ledger_passes_with_and_without_a_server(ledger: Path) -> None:
    ran = bursar("doctor", "--data-dir", ledger, "--json")
    found = states(ran.document)
    assert (ran.code, ran.document["ok"]) == (0, True)
    assert {"bursar", "sqlite", "directory", "schema", "token", "clock", "lock", "server", "prices"} < set(
        found
    )
    assert found["schema"] == found["server"] == found["unpriced"] == "ok"


def test_each_fault_says_what_to_do(alone: Path) -> None:
    (alone / "operator.token").chmod(0o644)
    ran = bursar("doctor", "--data-dir", alone)
    assert ran.code == 1
    assert "fail  token" in ran.out
    assert f"chmod 600 {alone / 'operator.token'}" in ran.out


def test_unpriced_usage_is_a_warning(alone: Path) -> None:
    with running_server(alone) as server:
        server.post("/v1/events", {"agent": "a", "model": "own-model", "input_tokens": 5})
        ran = bursar("doctor", "--data-dir", alone, "--json")
    assert ran.code == 0
    assert states(ran.document)["unpriced"] == "warn"


def test_a_file_that_is_no_ledger_is_seen_and_left_alone(alone: Path) -> None:
    (alone / "bursar.db").write_bytes(b"x" * 10_000)
    ran = bursar("doctor", "--data-dir", alone, "--json")
    assert ran.code == 1
    assert states(ran.document)["schema"] == "fail"
    assert (alone / "bursar.db").read_bytes() == b"x" * 10_000


def test_where_there_is_nothing_yet_nothing_is_made(tmp_path: Path) -> None:
    ran = bursar("doctor", "--data-dir", tmp_path / "none", "--json")
    assert ran.code == 0
    assert states(ran.document)["ledger"] == "warn"
    assert not (tmp_path / "none").exists()


def test_every_fault_of_the_configuration_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bursar.toml"
    file.write_text('port = 99999\nportt = 1\n[report]\nbuy = "x"\n[repot]\n')
    ran = bursar("check-config", "--json", BURSAR_CONFIG=str(file), BURSAR_ZONE="Mars", BURSAR_REPORT_BUY="1")
    assert ran.code == 1
    assert {(fault["name"], fault["origin"]) for fault in ran.document["faults"]} == {
        ("port", "file"),
        ("portt", "file"),
        ("zone", "environment"),
        ("report.buy", "file"),
        ("repot", "file"),
        ("BURSAR_REPORT_BUY", "environment"),
    }
    refused = bursar("serve", BURSAR_CONFIG=str(file), BURSAR_ZONE="Mars")
    assert refused.code == 2
    assert all(name in refused.talk for name in ("port:", "portt:", "zone:"))


def test_each_setting_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "bursar.toml"
    file.write_text('port = 1234\nmetrics_token = "hidden"\n')
    ran = bursar("check-config", "--host", "::1", "--json", BURSAR_CONFIG=str(file), BURSAR_DATA_DIR="/x")
    said = {one["name"]: (one["value"], one["origin"]) for one in ran.document["settings"]}
    assert ran.code == 0
    assert said["host"] == ("::1", "flag")
    assert said["data_dir"] == ("/x", "environment")
    assert said["port"] == ("1234", "file")
    assert said["metrics_token"] == ("(set)", "file")
    assert said["zone"] == ("UTC", "default")


def test_a_file_that_is_no_toml_stops_commands_and_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "bursar.toml"
    file.write_text("port = = 3")
    assert bursar("keys", "list", BURSAR_CONFIG=str(file)).code == 2
    told = bursar("check-config", BURSAR_CONFIG=str(file))
    assert told.code == 1
    assert "bursar.toml" in told.talk
