import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bursar.cli.figures import bar, money_decimals, money_text, share_text
from support.program import bursar
from support.server import Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("report") / "data") as running:
        events = [
            call("a", "gpt-4o", 3_000_000, "2026-01-05T23:30:00Z"),
            call("b", "gpt-4o-mini", 100_000, "2026-01-06T10:00:00Z"),
            call("b", "own-model", 777, "2026-01-06T11:00:00Z"),
        ]
        assert running.post("/v1/events", events).json()["recorded"] == 3
        yield running


def call(agent: str, model: str, input_tokens: int, at: str) -> dict[str, object]:
    return {"agent": agent, "model": model, "input_tokens": input_tokens, "occurred_at": at}


def report(server: Server, *arguments: str, **env: str) -> str:
    ran = bursar("report", "--data-dir", server.data_dir, "--from", "2026-01-05", "--to", "2026-01-06",
                 *arguments, **env)  # fmt: skip
    assert ran.code == 0, ran.talk
    return ran.out


def test_a_table_ranks_sums_and_says_what_has_no_price(server: Server) -> None:
    lines = report(server, "--by", "model").splitlines()
    assert lines[0] == "Cost by model: 2026-01-05 to 2026-01-06, UTC"
    found = [line.split() for line in lines if "gpt" in line or "own" in line or "total" in line]
    full = "█" * 16
    assert found[0] == ["gpt-4o", "1", "3,000,000", "0", "0", "$7.5000", "99.8%", full]
    assert found[1] == ["gpt-4o-mini", "1", "100,000", "0", "0", "$0.0150", "0.2%", "▏"]
    assert found[2] == ["own-model", "1", "777", "0", "1", "unpriced", "0.0%"]
    assert found[3] == ["total", "3", "3,100,777", "0", "1", "$7.5150+"]
    assert any(line.startswith("UNPRICED: 1 requests with 777 tokens") for line in lines)
    assert any("bursar models unpriced" in line for line in lines)


def test_a_narrow_terminal_cuts_names_and_bars_but_no_figure(server: Server) -> None:
    wide = report(server, "--by", "model")
    narrow = report(server, "--by", "model", FORCE_COLOR="1", COLUMNS="40")
    assert "█" in wide
    assert "█" not in narrow
    assert all(figure in narrow for figure in ("3,100,777", "$7.5150+", "99.8%"))
    assert "…" not in narrow


def test_days_begin_in_the_zone_that_is_asked_for(server: Server) -> None:
    in_utc = json.loads(report(server, "--by", "day", "--json"))
    in_berlin = json.loads(report(server, "--by", "day", "--tz", "Europe/Berlin", "--json"))
    assert {row["day"]: row["requests"] for row in in_utc["data"]} == {"2026-01-05": 1, "2026-01-06": 2}
    assert {row["day"]: row["requests"] for row in in_berlin["data"]} == {"2026-01-06": 3}


def test_days_stand_in_their_order_and_filters_combine(server: Server) -> None:
    rows = report(server, "--by", "day,agent", "--csv").splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["2026-01-05", "a"], ["2026-01-06", "b"]]
    only = report(server, "--by", "agent", "--agent", "b", "--model", "gpt-4o-mini", "--csv").splitlines()
    assert only[1].startswith("b,0.015,1,100000,0,")


def test_options_come_from_flag_then_environment_then_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bursar.toml").write_text('[report]\nby = "agent"\n')
    file = {"BURSAR_CONFIG": str(tmp_path / "bursar.toml")}
    assert report(server, **file).startswith("Cost by agent")
    assert report(server, **file, BURSAR_REPORT_BY="day").startswith("Cost by day")
    assert report(server, "--by", "model", **file, BURSAR_REPORT_BY="day").startswith("Cost by model")
    assert report(server, BURSAR_REPORT_CSV="1").startswith("model,cost_usd,")
    (tmp_path / "bursar.toml").write_text('[report]\ncsv = true\n[import.csv]\nmap = ["occurred_at=t"]\n')
    assert report(server, **file).startswith("model,cost_usd,")
    told = bursar("import", "csv", tmp_path / "bursar.toml", "--map", "agent=a", "--set", "agent=b", **file)
    assert told.talk == "Error: agent is both mapped and a constant\n"
    told = bursar("import", "csv", tmp_path / "bursar.toml", BURSAR_IMPORT_CSV_SET="agent=b model=c", **file)
    assert told.talk == "Error: map at least one count of tokens or a cost\n"


def test_a_wrong_grouping_is_a_wrong_call(server: Server) -> None:
    ran = bursar("report", "--by", "colour", "--data-dir", server.data_dir)
    assert ran.code == 2
    assert "groupBy must name one of" in ran.talk


def test_an_event_explains_its_cost(server: Server) -> None:
    at = ("--data-dir", server.data_dir)
    events = bursar("events", "list", "--agent", "a", *at, "--json").document["data"]
    shown = bursar("events", "show", events[0]["id"], *at)
    assert "3,000,000 × $2.50 / million = $7.5" in shown.out
    assert bursar("events", "show", "no such key", *at).code == 3


def test_figures_are_sensible_for_the_eye() -> None:
    assert [money_decimals([Decimal(text)]) for text in ("1234", "2.5", "0.3")] == [2, 4, 6]
    assert money_text(Decimal("1234567.891"), 2) == "$1,234,567.89"
    assert money_text(Decimal("0.000001"), 2) == "<$0.01"
    assert share_text(Decimal("0.0001"), Decimal(1)) == "<0.1%"
    assert share_text(Decimal(0), Decimal(0)) == "-"
    assert (bar(Decimal(1), Decimal(2), 4), bar(Decimal(0), Decimal(2)), bar(Decimal(1), Decimal(999))) == (
        "██", "", "▏",
    )  # fmt: skip
