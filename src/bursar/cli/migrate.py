"""`bursar migrate`: bring the schema up to date, in the halves that a rolling upgrade needs."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import say, write, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.storage.migrations.steps import StepState

_SECOND_US = 1_000_000


class PhaseName(StrEnum):
    """What the option takes."""

    PRE = "pre"
    POST = "post"


def migrate(
    *,
    phase: Annotated[
        PhaseName | None,
        typer.Option(
            help="Run one half: pre before new processes start, post after the last old one has ended.",
            show_default="both",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the steps and change nothing.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring the schema of the ledger up to date, beside servers that work on it."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`
    from bursar.storage.migrations.steps import Phase  # noqa: PLC0415 - see `main`
    from bursar.wiring import migrations  # noqa: PLC0415 - see `main`

    settings = load_settings(data_dir=data_dir)
    run = [] if plan else migrations.migrate(settings, Phase(phase) if phase else None, say)
    states = migrations.schema_states(settings)
    if as_json:
        write_json({"ran": [step.name for step in run], "steps": [_to_json(state) for state in states]})
        return
    _show(states)
    if plan:
        missing = sum(state.applied_at is None for state in states)
        write(f"{missing} to run." if missing else "Nothing to run: the schema is the newest.")
    else:
        write(f"{len(run)} run." if run else "Nothing was to be run.")


def _show(states: "Sequence[StepState]") -> None:
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [Column("step"), Column("phase"), Column("run"), Column("what", is_wrapped=True)]
    write_table(columns, [[step.name, step.phase.value, _moment(at), step.title] for step, at in states])


def _moment(applied_at: int | None) -> str:
    """Return when, "yes" where only that is known."""
    if applied_at is None:
        return "not yet"
    return _instant(applied_at).strftime("%Y-%m-%d %H:%M") if applied_at else "yes"


def _to_json(state: "StepState") -> dict[str, object]:
    step, at = state
    return {
        "step": step.name,
        "phase": step.phase.value,
        "title": step.title,
        "is_applied": at is not None,
        "applied_at": _instant(at).isoformat() if at else None,
    }


def _instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // _SECOND_US, UTC)
