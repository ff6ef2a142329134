from pathlib import Path
from typing import Any

import pytest

from cli.spending import ask, spend
from support.program import bursar
from support.server import running_server

NO_HOLD = "hold_" + "0" * 32


def filled(data_dir: Path) -> dict[str, Any]:
    """Hold and spend in one budget, and end the server; return the holds by what they are for."""
    with running_server(data_dir) as server:
        assert bursar("budgets", "create", "2", "--name", "daily", "--data-dir", data_dir).code == 0
        return {
            "spent": spend(server, "one", "0.50"),
            "open": ask(server, "two", "0.25", run="r-1", project="shop", user="ada"),
            "other": ask(server, "three", "0.125", agent="other"),
        }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose server has ended; these tests only read it."""
    return tmp_path_factory.mktemp("holds") / "data"


@pytest.fixture(scope="module")
def held(data_dir: Path) -> dict[str, Any]:
    return filled(data_dir)


def test_holds_are_listed_by_budget_agent_and_state(held: dict[str, Any], data_dir: Path) -> None:
    def ids(*options: str) -> set[str]:
        ran = bursar("holds", "list", *options, "--data-dir", data_dir, "--json")
        assert ran.code == 0, ran.talk
        return {hold["id"] for hold in ran.document["data"]}

    everything = {hold["id"] for hold in held.values()}
    assert ids() == ids("--budget", "daily") == everything
    assert ids("--state", "open") == {held["open"]["id"], held["other"]["id"]}
    assert ids("--agent", "other", "--state", "open") == {held["other"]["id"]}
    table = bursar("holds", "list", "--state", "settled", "--data-dir", data_dir).out
    assert all(text in table for text in ("bot", "gpt-4o", "settled", "$0.50", held["spent"]["id"]))
    assert bursar("holds", "list", "--budget", "nothing", "--data-dir", data_dir).code == 3
    assert bursar("holds", "list", "--state", "gone", "--data-dir", data_dir).code == 2


def test_a_list_goes_on_where_its_page_ended(held: dict[str, Any], data_dir: Path) -> None:
    seen, more = [], ("--limit", "1")
    for _ in range(len(held)):
        page = bursar("holds", "list", *more, "--data-dir", data_dir, "--json").document
        seen += [hold["id"] for hold in page["data"]]
        if page["next_cursor"] is None:
            break
        assert (
            f"More: --cursor {page['next_cursor']}"
            in bursar("holds", "list", *more, "--data-dir", data_dir).out
        )
        more = ("--limit", "1", "--cursor", page["next_cursor"])
    assert sorted(seen) == sorted(hold["id"] for hold in held.values())


def test_a_hold_shows_how_its_budgets_stand(held: dict[str, Any], data_dir: Path) -> None:
    told = " ".join(bursar("holds", "show", held["open"]["id"], "--data-dir", data_dir).out.split())
    assert "open, a call of bot" in told
    assert "project shop user ada run r-1 held $0.25" in told
    assert "daily $0.25 $2.00 $0.50 $0.375 $1.125" in told
    assert bursar("holds", "show", NO_HOLD, "--data-dir", data_dir).code == 3


def test_a_voided_hold_gives_its_room_back_once(alone: Path) -> None:
    held = filled(alone)
    at = ("--data-dir", alone)
    told = bursar("holds", "void", held["open"]["id"], "--reason", "never sent", *at)
    assert told.out == f"{held['open']['id']} is voided: $0.25 of bot is free again.\n"
    window = bursar("budgets", "show", "daily", *at, "--json").document["budget"]["window"]
    assert (window["settled"], window["held"], window["remaining"]) == ("0.50", "0.125", "1.375")
    assert bursar("holds", "void", held["open"]["id"], *at, "--json").document["state"] == "voided"
    late = bursar("holds", "void", held["spent"]["id"], *at)
    assert (late.code, late.out, late.talk) == (1, "", "Error: the hold is settled already\n")
    assert bursar("holds", "void", NO_HOLD, *at).code == 3
    again = bursar("budgets", "show", "daily", *at, "--json").document["budget"]["window"]
    assert again == window
