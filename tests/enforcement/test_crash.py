"""Killed at any statement, a commit of holds is there whole or not at all, and can be asked again."""

import json
import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).with_name("crash_driver.py")


def test_a_kill_at_any_statement_loses_no_hold_and_makes_none_twice(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) > 15
    assert [outcome for outcome in outcomes if not outcome["is_repeated"]] == []
    assert [fault for outcome in outcomes for fault in outcome["faults"]] == []
    # Every kill came before the commit's end but the last, which came after it.
    assert [outcome["state"] for outcome in outcomes] == ["absent"] * (len(outcomes) - 1) + ["whole"]
