import json
from pathlib import Path

from support.program import bursar
from support.server import Server, running_server


def test_what_had_no_price_gets_one_later(ledger: Path, tmp_path: Path) -> None:
    at = ("--data-dir", ledger, "--json")
    lines = tmp_path / "calls.jsonl"
    lines.write_text('{"t": "2026-01-05T10:00:00Z", "n": 1000000}\n')
    columns = (
        "--map",
        "occurred_at=t",
        "--map",
        "input_tokens=n",
        "--set",
        "agent=a",
        "--set",
        "model=own-model",
    )
    assert bursar("import", "jsonl", lines, *columns, *at).document["unpriced"] == 1
    [unpriced] = bursar("models", "unpriced", *at).document["data"]
    assert (unpriced["model"], unpriced["requests"], unpriced["tokens"]) == ("own-model", 1, 1_000_000)
    price = bursar("prices", "set", "own-model", "--input", "1.25", "--from", "2026-01-01", *at).document
    assert (price["state"], price["valid_from"]) == ("active", "2026-01-01T00:00:00Z")
    assert bursar("models", "reprice", "--data-dir", ledger).code == 2
    done = bursar("models", "reprice", "--unpriced", *at).document
    assert (done["repriced"], done["cost_added_usd"]) == (1, "1.25")
    assert bursar("models", "unpriced", *at).document["data"] == []
    assert bursar("ledger", "verify", *at).document["ok"] is True


def test_prices_are_listed_explained_imported_and_ended(alone: Path, tmp_path: Path) -> None:
    with running_server(alone) as server:
        check_prices(server, tmp_path)


def check_prices(server: Server, tmp_path: Path) -> None:
    at = ("--data-dir", server.data_dir)
    made = bursar("prices", "set", "openai/gpt-4o", "--percent", "-10", "--from", "always", *at, "--json")
    assert made.document["percent"] == "-10"
    assert "-10 % on the list price" in bursar("prices", "list", *at).out
    explained = bursar("prices", "explain", "openai/gpt-4o", "--input", "1000000", "--output", "0", *at)
    assert "2.25 USD" in explained.out
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"own": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}))
    dry = bursar("prices", "import", file, "--dry-run", *at, "--json").document
    assert (dry["imported"], dry["dry_run"]) == (1, True)
    assert bursar("prices", "import", file, *at, "--json").document["imported"] == 1
    assert bursar("prices", "end", made.document["id"], *at, "--json").document["state"] == "ended"
    listed = bursar("models", "list", "gpt-4o-mini", "--provider", "openai", *at, "--json").document["data"]
    assert any(model["model"] == "gpt-4o-mini" for model in listed)
    wrong = bursar("prices", "set", "x", "--input", "much", *at)
    assert wrong.code == 2
    assert "decimal number" in wrong.talk


def test_damage_is_found_by_verify(alone: Path) -> None:
    ran = bursar("ledger", "verify", "--file", alone / "bursar.lock")
    assert ran.code == 2
    good = bursar("ledger", "verify", "--data-dir", alone)
    assert good.code == 0
    assert "is exact" in good.out
