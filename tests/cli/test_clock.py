"""`bursar clock confirm`, on a server whose system clock steps by an hour while it runs."""

from pathlib import Path

from support.program import bursar
from support.server import running_server

# Read by each Python process of that path before anything else: a machine whose clock somebody sets.
STEPPING = """
import os, time
told, step = time.time_ns, os.environ["STEP"]
time.time_ns = lambda: told() + os.path.exists(step) * 3_600_000_000_000
"""


def clock_in_status(data_dir: Path) -> str:
    shown = bursar("status", "--data-dir", data_dir, "--json")
    assert shown.code == 0, shown.talk
    return str(shown.document["clock"])


def test_a_step_of_the_clock_is_told_and_can_be_confirmed(alone: Path, tmp_path: Path) -> None:
    machine, step = tmp_path / "machine", tmp_path / "step"
    machine.mkdir()
    (machine / "sitecustomize.py").write_text(STEPPING)
    at = ("--data-dir", alone)
    with running_server(alone, PYTHONPATH=str(machine), STEP=str(step)):
        assert clock_in_status(alone) == "ok"
        step.touch()
        assert clock_in_status(alone) == "suspect"
        assert "clock        suspect" in bursar("status", *at).out
        assert bursar("clock", "confirm", *at).out.startswith("The clock is believed")
        assert clock_in_status(alone) == "ok"
        assert bursar("clock", "confirm", *at).out.startswith("The clock was not in doubt")


def test_a_clock_that_is_not_in_doubt_needs_no_word(ledger: Path) -> None:
    told = bursar("clock", "confirm", "--data-dir", ledger, "--json")
    assert (told.code, told.document) == (0, {"clock": "ok", "changed": False})


def test_without_a_ledger_there_is_no_clock_to_confirm(tmp_path: Path) -> None:
    told = bursar("clock", "confirm", "--data-dir", tmp_path / "none")
    assert (told.code, told.out) == (3, "")
