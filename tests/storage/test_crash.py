"""Killed at any statement of a batch, the file holds the batch whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).with_name("crash_driver.py")


def test_a_kill_at_any_statement_leaves_a_whole_ledger(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) > 30
    assert [outcome for outcome in outcomes if outcome["violations"]] == []
    # Every kill came before the commit's end but the last, which came after it.
    assert [outcome["state"] for outcome in outcomes] == ["absent"] * (len(outcomes) - 1) + ["whole"]
