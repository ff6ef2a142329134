"""The steps of the schema's history, oldest first, each with its statements for either engine.

A step's file says in the first line of its text which half of a release it belongs to:

    pre    before the new processes start; those of the release before go on working with it
    post   after the last process of the release before has ended

and has `STATEMENTS` for SQLite and `POSTGRES` for PostgreSQL, whose history begins with
`baseline`: one step that stands for all up to its number.
"""

import importlib.util
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from bursar.storage.migrations import baseline


class Phase(StrEnum):
    """Which half of a rolling upgrade a step belongs to."""

    PRE = "pre"
    POST = "post"


class Step(NamedTuple):
    """One step.

    Attributes:
        name: Its number, four digits.
        phase: When it may run.
        title: What it brings, in a line.
        sqlite: Its statements there.
        postgres: Its statements here.
    """

    name: str
    phase: Phase
    title: str
    sqlite: Sequence[str]
    postgres: Sequence[str]


class StepState(NamedTuple):
    """A step and when it was run on a database, microseconds UTC: None if it was not, 0 if none can tell."""

    step: Step
    applied_at: int | None


@cache
def sqlite_steps() -> tuple[Step, ...]:
    """Return all steps; their files sort by number."""
    folder = Path(str(files("bursar.storage.migrations") / "versions"))
    return tuple(_load(path) for path in sorted(folder.glob("[0-9]*.py")))


@cache
def postgres_steps() -> tuple[Step, ...]:
    """Return PostgreSQL's: the baseline, then what came after it."""
    title = f"the tables of steps 0001 to {baseline.BASE}, events by month, row-level security"
    first = Step(baseline.BASE, Phase.PRE, title, (), tuple(baseline.statements()))
    return (first, *(step for step in sqlite_steps() if step.name > first.name))


def _load(path: Path) -> Step:
    spec = importlib.util.spec_from_file_location(f"bursar_step_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the migration step {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    phase, _, title = (module.__doc__ or "").partition("\n")[0].partition(": ")
    statements = (tuple(module.STATEMENTS), tuple(getattr(module, "POSTGRES", ())))
    return Step(module.revision, Phase(phase), title.rstrip("."), *statements)
