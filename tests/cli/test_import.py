import json
import os
import sqlite3
import subprocess
from pathlib import Path

from capture.claude_logs import LogFolder
from support import trace
from support.program import bursar, cold
from support.server import PROGRAM, environment, running_server

ROW = "time,agent,model,in,out\n"
COLUMNS = tuple(
    part
    for pair in ("occurred_at=time", "agent=agent", "model=model", "input_tokens=in", "output_tokens=out")
    for part in ("--map", pair)
)
NOTHING_NEW = {"recorded": 0, "tokens": 0, "cost_usd": "0.00"}


def answer(number: int, out: int, model: str = "claude-sonnet-4-20250514") -> str:
    """One line of Claude Code's log."""
    usage = {"input_tokens": 100, "output_tokens": out, "cache_read_input_tokens": 1000}
    message = {"id": f"msg_{number}", "model": model, "usage": usage}
    line = {
        "type": "assistant",
        "timestamp": f"2026-01-05T10:00:{number:02d}Z",
        "sessionId": "s",
        "requestId": f"req_{number}",
        "cwd": "/home/me/shop",
        "message": message,
    }
    return json.dumps(line) + "\n"


def test_the_trace_is_counted_to_the_token_and_the_nano_dollar(ledger: Path, tmp_path: Path) -> None:
    file = trace.trace(tmp_path)
    done = cold("import", "csv", file, *trace.OPTIONS, "--data-dir", ledger, "--json")
    assert (done.code, done.talk) == (0, "")
    first = done.document
    assert (first["read"], first["recorded"], first["duplicates"]) == (trace.CALLS, trace.CALLS, 0)
    assert (first["tokens"], first["unpriced"]) == (trace.INPUT_TOKENS + trace.OUTPUT_TOKENS, 0)
    assert first["cost_usd"] == trace.COST_USD
    unchanged = bursar("import", "csv", file, *trace.OPTIONS, "--data-dir", ledger, "--json").document
    assert unchanged["files"] == {"found": 1, "read": 0, "unchanged": 1, "skipped": 0}
    again = bursar("import", "csv", file, *trace.OPTIONS, "--data-dir", ledger, "--json", "--again").document
    assert again == again | NOTHING_NEW
    assert again["duplicates"] == trace.CALLS

    asked = ("--from", trace.DAY, "--to", trace.DAY, "--agent", "coder", "--data-dir", ledger)
    total = bursar("report", *asked, "--json").document["meta"]["total"]
    assert (total["inputTokens"], total["outputTokens"]) == (trace.INPUT_TOKENS, trace.OUTPUT_TOKENS)
    table = bursar("report", "--by", "agent,model", *asked).out
    assert all(text in table for text in ("coder", "gpt-4o", "18,059,974", "245,896", "$47.6089"))
    assert f",{trace.COST_USD},8819,18059974,245896," in bursar("report", *asked, "--csv").out

    with sqlite3.connect(f"file:{ledger / 'bursar.db'}?mode=ro", uri=True) as file_connection:
        columns = "count(*), sum(input_tokens), sum(output_tokens), sum(cost_nusd)"
        found = file_connection.execute(f"SELECT {columns} FROM event").fetchone()
    file_connection.close()
    assert found == (trace.CALLS, trace.INPUT_TOKENS, trace.OUTPUT_TOKENS, trace.COST_NUSD)


def test_the_api_gives_the_same_sum_digit_for_digit(alone: Path, tmp_path: Path) -> None:
    with running_server(alone) as server:
        bursar("import", "csv", trace.trace(tmp_path), *trace.OPTIONS, "--data-dir", alone)
        body = server.get("/v1/costs", **{"from": trace.DAY, "to": trace.DAY}).text
    assert f'"totalCost":{trace.COST_USD}' in body


def test_a_grown_log_adds_what_is_new_and_corrects_what_grew(ledger: Path, tmp_path: Path) -> None:
    log = tmp_path / "projects/shop/session.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(answer(1, 5) + answer(2, 7))
    run = ("import", "claude-code", tmp_path, "--agent", "dev", "--data-dir", ledger, "--json")
    first = bursar(*run).document
    assert (first["recorded"], first["tokens"], first["unpriced"]) == (2, 2 * 1100 + 12, 0)
    log.write_text(log.read_text() + answer(2, 70) + answer(3, 1))
    second = bursar(*run).document
    assert (second["recorded"], second["duplicates"]) == (2, 1)
    report = bursar(
        *("report", "--by", "agent,project", "--from", "2026-01-05", "--to", "2026-01-05"),
        *("--data-dir", ledger, "--json"),
    ).document
    assert [(row["agent"], row["project"]) for row in report["data"]] == [("dev", "shop")]
    assert report["meta"]["total"]["outputTokens"] == 5 + 70 + 1
    assert report["meta"]["total"]["requests"] == 3


def test_a_folder_with_every_trap_reports_days_and_models_to_the_token(alone: Path, tmp_path: Path) -> None:
    logs = LogFolder(tmp_path / "claude")
    wanted = logs.build()
    done = bursar("import", "claude-code", tmp_path / "claude", "--data-dir", alone, "--json").document
    assert (done["calls"], done["tokens"], done["unpriced"]) == (wanted.answers, wanted.tokens, 0)
    assert done["files"]["skipped"] == wanted.skipped_files
    assert done["skipped"]["faulty"] == wanted.refused
    asked = ("report", "--by", "day,model", "--from", "2025-10-01", "--to", "2025-10-31", "--data-dir", alone)
    found = {}
    for row in bursar(*asked, "--json").document["data"]:
        cached, written = row["cacheReadTokens"], row["cacheWriteTokens"]
        fresh = row["inputTokens"] - cached - written
        found[row["day"], row["model"]] = (row["requests"], (fresh, row["outputTokens"], written, cached))
    assert found == {key: (wanted.requests[key], tuple(counts)) for key, counts in wanted.daily.items()}
    again = bursar("import", "claude-code", tmp_path / "claude", "--again", "--data-dir", alone, "--json")
    assert again.document == again.document | NOTHING_NEW


def test_a_dry_run_counts_and_changes_nothing(ledger: Path, tmp_path: Path) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(ROW + "2026-01-05T10:00:00Z,a,gpt-4o,1000,100\n2026-01-05T10:00:00Z,a,no-such,1,1\n")
    run = ("import", "csv", table, *COLUMNS, "--data-dir", ledger, "--json")
    dry = bursar(*run, "--dry-run").document
    assert (dry["recorded"], dry["cost_usd"], dry["unpriced"]) == (2, "0.0035", 1)
    assert bursar("events", "list", "--data-dir", ledger, "--json").document["data"] == []
    assert bursar(*run).document["recorded"] == 2
    assert len(bursar("events", "list", "--data-dir", ledger, "--json").document["data"]) == 2


def test_faulty_rows_are_told_by_line_and_the_others_kept(alone: Path, tmp_path: Path) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(ROW + "2026-01-05T10:00:00Z,a,gpt-4o,-1,100\n2026-01-05T10:00:00Z,a,gpt-4o,1,1\n")
    told = bursar("import", "csv", table, *COLUMNS, "--data-dir", alone)
    assert told.code == 0
    assert "calls.csv:2: in:" in told.talk
    assert "1 faulty" in told.out
    table.write_text(ROW + "yesterday,a,gpt-4o,1,100\n")
    assert bursar("import", "csv", table, *COLUMNS, "--data-dir", alone).code == 1


def test_an_import_whose_server_dies_is_finished_by_the_next_one(alone: Path, tmp_path: Path) -> None:
    table = tmp_path / "calls.csv"
    rows = "".join(f"2026-01-05T10:00:00Z,a,gpt-4o,{number},1\n" for number in range(20_000))
    table.write_text(ROW + rows)
    run = ("import", "csv", str(table), *COLUMNS, "--data-dir", str(alone), "--json")
    with running_server(alone) as server:
        first = subprocess.Popen([*PROGRAM, *run], env=environment({}), stderr=subprocess.PIPE, text=True)
        while not server.get("/v1/events", limit=1).json()["data"]:
            assert first.poll() is None
        server.kill9()
        _, talk = first.communicate()
        assert first.returncode == 6
        assert "does not answer" in talk
    second = bursar(*run).document
    assert second["recorded"] + second["duplicates"] == 20_000
    assert second["duplicates"] > 0
    total = bursar("report", "--from", "2026-01-05", "--data-dir", alone, "--json").document["meta"]["total"]
    assert (total["requests"], total["inputTokens"]) == (20_000, sum(range(20_000)))


def test_json_lines_are_read_by_paths_into_them(alone: Path, tmp_path: Path) -> None:
    lines = tmp_path / "calls.jsonl"
    lines.write_text('{"at": "2026-01-05T10:00:00Z", "usage": {"in": 5}, "id": "x"}\n')
    run = (
        *("import", "jsonl", lines, "--map", "occurred_at=at", "--map", "input_tokens=usage.in"),
        *("--set", "agent=a", "--set", "model=gpt-4o", "--key-column", "id", "--data-dir", alone),
    )
    assert bursar(*run, "--json").document["recorded"] == 1
    assert bursar("events", "show", "x", "--data-dir", alone, "--json").document["usage"]["input_tokens"] == 5
    assert "5 × $2.5" in bursar("events", "show", "x", "--data-dir", alone).out


def test_a_wrong_call_says_what_to_write(tmp_path: Path) -> None:
    data_dir, table = tmp_path / "data", tmp_path / "calls.csv"
    table.write_text(ROW)
    no_agent = bursar("import", "csv", table, "--map", "occurred_at=time", "--data-dir", data_dir)
    assert (no_agent.code, no_agent.talk) == (2, "Error: map agent to a column or give it as a constant\n")
    no_file = bursar("import", "csv", tmp_path / "none.csv", "--data-dir", data_dir)
    assert no_file.code == 2
    os.mkfifo(tmp_path / "pipe.csv")
    pipe = bursar("import", "csv", tmp_path / "pipe.csv", "--data-dir", data_dir)
    assert (pipe.code, "no regular file" in pipe.talk) == (2, True)
    as_json = bursar("import", "jsonl", table, "--data-dir", data_dir)
    assert as_json.code == 2
    assert "import csv" in as_json.talk
    no_logs = bursar("import", "claude-code", "--data-dir", data_dir, HOME=str(tmp_path))
    assert no_logs.code == 3
    assert str(tmp_path / ".claude") in no_logs.talk
