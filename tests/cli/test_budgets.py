from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.spending import ask, spend
from support.program import Ran, bursar
from support.server import Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("budgets") / "data") as running:
        made = bursar(
            "budgets", "create", "1", "--agent", "bot", "--name", "daily", "--data-dir", running.data_dir
        )
        assert made.code == 0, made.talk
        assert spend(running, "one", run="r-1")["state"] == "settled"
        assert ask(running, "two")["state"] == "open"
        assert ask(running, "three")["code"] == "budget_exceeded"
        yield running


def said(ran: Ran) -> str:
    """The output of a command that went well, each run of spaces as one."""
    assert ran.code == 0, ran.talk
    return " ".join(ran.out.split())


def test_one_command_makes_a_daily_budget_of_one_dollar(ledger: Path) -> None:
    at = ("--data-dir", ledger)
    told = said(bursar("budgets", "create", "1", "--agent", "bot", *at))
    assert "agent bot may spend $1.00 a day, and is refused beyond." in told
    assert "spent $0.00, held $0.00, left $1.00; resets at " in told
    assert "at 80 %: alert; 100 %: alert" in told
    [budget] = bursar("budgets", "list", *at, "--json").document["data"]
    assert (budget["limit"], budget["period"], budget["scope"]) == ("1.00", "daily", {"agent": "bot"})
    assert (budget["metric"], budget["mode"]) == ("cost", "hard")


def test_every_option_arrives_digit_for_digit(alone: Path) -> None:
    key = bursar("keys", "create", "ci", "--data-dir", alone, "--json").document["id"]
    options = (
        *("--name", "all", "--period", "weekly", "--metric", "cost", "--agent", "a", "--project", "p"),
        *("--user", "u", "--key", key, "--model", "gpt-4*", "--provider", "open?i", "--run", "r"),
        *("--tag", "team=x", "--tag", "env=prod=eu", "--soft", "--timezone", "Europe/Berlin"),
        *("--reset-hour", "6", "--unpriced", "allow", "--on-expiry", "suspense", "--required"),
        *("--threshold", "0.1", "--threshold", "0.8:clamp=1000", "--threshold", "0.9:pause"),
        *("--threshold", "1.1:kill:latch"),
    )
    made = bursar("budgets", "create", "1234567.000000001", *options, "--data-dir", alone, "--json").document
    assert made["limit"] == "1234567.000000001"
    assert made["scope"] == {
        "project": "p", "agent": "a", "user": "u", "api_key": key, "model": "gpt-4*",
        "provider": "open?i", "run": "r", "tags": {"env": "prod=eu", "team": "x"},
    }  # fmt: skip
    assert made["thresholds"] == [
        {"at": 0.1, "action": "alert"},
        {"at": 0.8, "action": "clamp", "max_output_tokens": 1000},
        {"at": 0.9, "action": "pause"},
        {"at": 1.1, "action": "kill", "latch": True},
    ]
    rest = ("name", "period", "mode", "timezone", "reset_hour", "unpriced", "on_expiry", "enforcement")
    assert [made[name] for name in rest] == [
        "all", "weekly", "soft", "Europe/Berlin", 6, "allow", "suspense", "required",
    ]  # fmt: skip
    words = said(bursar("budgets", "show", "all", "--data-dir", alone))
    assert "clamp output to 1,000 tokens" in words
    assert "110 %: kill until a person resumes it" in words
    assert "may spend $1,234,567.000000001 a week, and is told beyond (soft)." in words


@pytest.mark.parametrize(
    ("limit", "options", "words"),
    [
        ("0.5", ("--per-minute", "--agent", "a"), "agent a may spend $0.50 a minute"),
        ("3", ("--loops",), "everybody may repeat calls 3 times a run"),
        ("5", ("--template",), "every agent may spend $5.00 a day"),
        ("200000", ("--metric", "tokens_output", "--period", "total"), "may use 200,000 tokens in total"),
        ("90", ("--metric", "calls", "--period", "hourly"), "may make 90 calls an hour"),
    ],
)
def test_short_forms_and_units_are_told_in_words(
    limit: str, options: tuple[str, ...], words: str, alone: Path
) -> None:
    assert words in said(bursar("budgets", "create", limit, *options, "--data-dir", alone))


def test_short_forms_stand_for_a_period_a_metric_and_a_stop(alone: Path) -> None:
    at = ("--data-dir", alone, "--json")
    breaker = bursar("budgets", "create", "0.5", "--per-minute", *at).document
    assert (breaker["period"], breaker["metric"], breaker["limit"]) == ("minute", "cost", "0.50")
    assert breaker["thresholds"] == [{"at": 1.0, "action": "pause", "latch": True}]
    guard = bursar("budgets", "create", "3", "--loops", *at).document
    assert (guard["period"], guard["metric"], guard["limit"]) == ("run", "loops", "3")


WRONG = {
    ("create", "0"): "limit must be above zero",
    ("create", "much"): "limit must be a decimal number",
    ("create", "1", "--period", "yearly"): "period must be one of",
    ("create", "1", "--timezone", "Mars"): "timezone must be an IANA time zone",
    ("create", "1", "--threshold", "high"): "--threshold 'high' cannot be read",
    ("create", "1", "--threshold", "0.8:clamp=many"): "cannot be read",
    ("create", "1", "--threshold", "11"): "thresholds[0]",
    ("create", "1", "--tag", "team"): "--tag 'team' must be NAME=VALUE",
    ("create", "1", "--loops", "--period", "daily"): "--loops means --period run",
    ("create", "1", "--loops", "--per-minute"): "two budgets",
    ("create", "1", "--key", "key_" + "0" * 32): "no key of this organisation",
    ("set", "x"): "nothing to change was named",
}


def test_what_cannot_be_is_a_wrong_call_and_makes_nothing(alone: Path) -> None:
    for arguments, sentence in WRONG.items():
        ran = bursar("budgets", *arguments, "--data-dir", alone)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert sentence in ran.talk
    assert bursar("budgets", "list", "--data-dir", alone, "--json").document == {"data": []}


def test_a_budget_is_changed_and_ended_by_its_name(ledger: Path) -> None:
    at = ("--data-dir", ledger)
    made = bursar("budgets", "create", "1", "--name", "shop", "--project", "shop", *at, "--json").document
    changed = bursar(
        "budgets", "set", "shop", "--limit", "2.5", "--mode", "soft", "--threshold", "0.5", *at, "--json"
    ).document
    assert (changed["id"], changed["limit"], changed["mode"]) == (made["id"], "2.50", "soft")
    assert changed["thresholds"] == [{"at": 0.5, "action": "alert"}]
    assert changed["window"]["limit"] == "2.50"
    assert said(bursar("budgets", "delete", "shop", *at)) == f"Ended shop ({made['id']})."
    assert bursar("budgets", "list", *at).talk.startswith("no budgets yet")
    assert bursar("budgets", "show", made["id"], *at).code == 3


def test_options_come_from_environment_and_file_as_well(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "bursar.toml").write_text(
        f'data_dir = "{alone}"\n[budgets.create]\nperiod = "weekly"\ntag = ["team=x"]\n'
    )
    file = {"BURSAR_CONFIG": str(tmp_path / "bursar.toml")}
    made = bursar("budgets", "create", "1", "--json", **file, BURSAR_BUDGETS_CREATE_AGENT="bot").document
    assert (made["period"], made["scope"]) == ("weekly", {"agent": "bot", "tags": {"team": "x"}})
    assert bursar("check-config", **file).code == 0


def test_a_name_means_one_budget_or_none(alone: Path) -> None:
    at = ("--data-dir", alone)
    ids = [bursar("budgets", "create", "1", "--name", "same", *at, "--json").document["id"] for _ in range(2)]
    both = bursar("budgets", "show", "same", *at)
    assert both.code == 2
    assert all(one in both.talk for one in ids)
    assert bursar("budgets", "show", ids[0], *at).code == 0
    nobody = bursar("budgets", "show", "other", *at)
    assert (nobody.code, nobody.talk) == (
        3,
        "Error: there is no budget 'other'\n`bursar budgets list` shows them.\n",
    )


def test_budgets_of_one_organisation_are_not_those_of_another(alone: Path) -> None:
    at = ("--data-dir", alone)
    made = bursar("budgets", "create", "1", "--name", "ours", *at, "--json").document
    assert bursar("init", "--org", "other", *at).code == 0
    assert bursar("budgets", "list", "--org", "other", *at, "--json").document == {"data": []}
    for name in ("ours", made["id"]):
        assert bursar("budgets", "set", name, "--limit", "9", "--org", "other", *at).code == 3
    assert bursar("budgets", "show", "ours", *at, "--json").document["budget"]["limit"] == "1.00"


def test_the_list_shows_what_is_spent_held_and_left(server: Server) -> None:
    lines = bursar("budgets", "list", "--data-dir", server.data_dir).out.splitlines()
    [row] = [line.split() for line in lines if "daily" in line]
    bar = "█" * 12 + "▊"
    assert row[:11] == [
        "daily",
        "agent",
        "bot",
        "$1.00",
        "a",
        "day",
        "$0.4000",
        "$0.4000",
        "$0.2000",
        "80.0%",
        bar,
    ]
    assert "warning" in row
    other = bursar("budgets", "list", "--agent", "nobody", "--data-dir", server.data_dir, "--json")
    assert other.document == {"data": []}


def test_a_budget_shows_its_window_and_who_holds_room(server: Server) -> None:
    told = said(bursar("budgets", "show", "daily", "--data-dir", server.data_dir))
    assert "used 80.0%" in told
    assert "Windows, newest first:" in told
    assert "Held by:" in told
    assert "bot gpt-4o - $0.40" in told
    document = bursar("budgets", "show", "daily", "--data-dir", server.data_dir, "--json").document
    assert [hold["state"] for hold in document["holds"]] == ["open"]
    assert [window["settled"] for window in document["windows"]] == ["0.40"]


def test_what_filled_a_budget_is_explained(server: Server) -> None:
    at = ("--data-dir", server.data_dir)
    told = said(bursar("budgets", "explain", "daily", *at))
    assert "spent $0.40 held $0.40 left $0.20" in told
    assert "bot settled $0.40 hold_" in told
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    document = bursar("budgets", "explain", "daily", "--at", today, *at, "--json").document
    assert document["at"] == f"{today}T00:00:00Z"
    assert document["spend"] == []
    windows = said(bursar("budgets", "windows", "daily", *at))
    assert "open $1.0000 $0.4000 $0.4000 $0.2000 80.0%" in windows
    alerts = bursar("budgets", "alerts", "daily", *at)
    assert "budget.exceeded" in said(alerts)


def test_a_simulation_says_whom_a_budget_would_have_refused(server: Server) -> None:
    at = ("--data-dir", server.data_dir)
    told = said(bursar("budgets", "simulate", "0.30", "--agent", "bot", *at))
    assert "If agent bot may spend $0.30 a day, and is refused beyond." in told
    assert "1 call read, 1 counted 1 refused (100.0%), $0.40" in told
    assert "bot gpt-4o r-1 no room $0.40 $0.00 evt_" in told
    kept = bursar("budgets", "simulate", "0.40", "--agent", "bot", *at, "--json").document
    assert (kept["matched"], kept["refused"]) == (1, 0)
    before = bursar("budgets", "simulate", "1", "--from", "2026-01-01", "--to", "2026-01-02", *at, "--json")
    assert before.document["events_read"] == 0
    wrong = bursar("budgets", "simulate", "0", *at)
    assert (wrong.code, wrong.talk) == (2, "Error: budget.limit must be above zero\n")
    listed = bursar("budgets", "list", *at, "--json").document["data"]
    assert [budget["name"] for budget in listed] == ["daily"]


def test_a_budget_per_run_has_a_window_for_each(server: Server) -> None:
    at = ("--data-dir", server.data_dir)
    options = ("--metric", "calls", "--period", "run", "--agent", "nightly", "--name", "calls of a run")
    assert bursar("budgets", "create", "2", *options, *at).code == 0
    for key in ("a", "b"):
        spend(server, key, "0.01", "nightly", run="run-7")
    assert ask(server, "c", "0.01", "nightly", run="run-7")["budget"] == "calls of a run"
    assert ask(server, "d", "0.01", "nightly", run="run-8")["state"] == "open"
    windows = said(bursar("budgets", "windows", "calls of a run", "--run", "run-7", *at))
    assert "run-7 open 2 2 0 0 100.0%" in windows
    explained = said(bursar("budgets", "explain", "calls of a run", "--run", "run-8", *at))
    assert "held 1 call left 1 call" in explained
    for command in ("windows", "explain"):
        unnamed = bursar("budgets", command, "calls of a run", *at)
        assert (unnamed.code, unnamed.out) == (2, "")
        assert "--run" in unnamed.talk
    assert bursar("budgets", "delete", "calls of a run", *at).code == 0
