"""What a run found: figures with their targets, as a table for people and a file to compare."""

import json
import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from operator import ge, le
from pathlib import Path
from typing import NamedTuple

from quiet import sync_ms

RESULTS = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        target: What it should be at least or at most, None where nothing is promised.
        at_least: Which of the two.
        notes: What it was made of: rates, CPU per event, spread.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True
    notes: Mapping[str, float | str] = {}

    @property
    def verdict(self) -> str:
        """`ok`, `missed`, or nothing where nothing is promised."""
        if self.target is None:
            return ""
        return "ok" if (ge if self.at_least else le)(self.value, self.target) else "missed"


class Results:
    """Collects figures and prints each when it is known."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.figures: list[Figure] = []
        self._begin = time.time()
        self._sync_ms = round(sync_ms(Path(__file__).parent), 3)

    def add(self, figure: Figure) -> None:
        """Keep and print a figure."""
        self.figures.append(figure)
        say(f"{figure.name}: {_number(figure.value)} {figure.unit} {figure.verdict}  {_notes(figure)}")

    def table(self) -> str:
        """Return a markdown table of all figures."""
        lines = ["| figure | measured | target | | made of |", "|---|---|---|---|---|"]
        for one in self.figures:
            sign = "≥" if one.at_least else "≤"
            target = "" if one.target is None else f"{sign} {_number(one.target)} {one.unit}"
            value = f"{_number(one.value)} {one.unit}"
            lines.append(f"| {one.name} | {value} | {target} | {one.verdict} | {_notes(one)} |")
        return "\n".join(lines)

    def write(self) -> Path:
        """Write the results file of this run and return its path."""
        RESULTS.mkdir(exist_ok=True)
        commit = commit_name()
        document = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._begin)),
            "commit": commit,
            "mode": self.mode,
            "seconds": round(time.time() - self._begin),
            "machine": machine(),
            "sync_ms_before_and_after": [self._sync_ms, round(sync_ms(RESULTS), 3)],
            "load_average": [round(value, 2) for value in os.getloadavg()],
            "figures": [
                {**one._asdict(), "notes": dict(one.notes), "verdict": one.verdict} for one in self.figures
            ],
        }
        path = RESULTS / f"{time.strftime('%Y-%m-%d', time.gmtime(self._begin))}-{commit}-{self.mode}.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        return path


def machine() -> dict[str, object]:
    """Return what a reader needs to judge the figures."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def commit_name() -> str:
    """Return the checked-out commit, short, with `+` when files differ from it."""
    where = Path(__file__).parent
    command = ["git", "-C", str(where), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or "unknown"


def say(text: str) -> None:
    """Print a line of progress at once, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _notes(figure: Figure) -> str:
    texts = {name: one if isinstance(one, str) else _number(one) for name, one in figure.notes.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
