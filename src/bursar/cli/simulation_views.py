"""What a simulation found, as people see it: a sentence, windows with bars, the first refusals.

answer of POST /v1/budgets/simulate  →  Simulation  →  text for standard output

Not here: the replay itself, which the server does.
"""

from decimal import Decimal

from bursar.cli.budget_answers import SimulatedWindow, Simulation
from bursar.cli.budget_views import amount_text, figures_of, sentence_of
from bursar.cli.figures import BAR_CELLS, bar, count_text, share_text
from bursar.cli.moments import moment_text
from bursar.cli.output import say, write

WINDOWS_SHOWN = 40
REFUSALS_SHOWN = 10


def write_simulation(found: Simulation) -> None:
    """Write what a proposed budget would have done, its windows, and whom it refused first."""
    budget = found.budget
    zone = budget.timezone
    span = f"{moment_text(found.from_, zone)} to {moment_text(found.to, zone)} {zone}"
    share = share_text(Decimal(found.refused), Decimal(found.matched))
    amount = amount_text(found.refused_amount, budget.unit)
    write(f"If {sentence_of(budget)}")
    write(f"  {span}: {_counted(found.events_read, 'call')} read, {count_text(found.matched)} counted")
    write(
        f"  {count_text(found.refused)} refused ({share}), {amount}; {_counted(found.alerts_count, 'alert')}"
    )
    if found.windows:
        write("")
        _write_windows(found)
    if found.refusals:
        write("\nRefused first:")
        _write_refusals(found)
    if found.truncated:
        say("There were more calls than one simulation reads; go on with a later --from.")


def _counted(count: int, word: str) -> str:
    return f"{count_text(count)} {word}" + ("" if count == 1 else "s")


def _write_windows(found: Simulation) -> None:
    from bursar.cli.tables import Column, room_for_bars, write_table  # noqa: PLC0415 - see `main`

    zone, unit = found.budget.timezone, found.budget.unit
    shown = _shown(found.windows)
    has_runs = any(window.run for window in shown)
    columns = [
        *map(Column, ("from", "to")), *([Column("run")] if has_runs else []),
        *(Column(name, is_number=True) for name in ("spent", "used", "refused")),
    ]  # fmt: skip
    rows = [
        [
            moment_text(window.starts_at, zone), moment_text(window.ends_at, zone),
            *([window.run or "-"] if has_runs else []), *figures_of(found.budget, [window.settled]),
            share_text(window.settled, window.limit), count_text(window.refused),
        ]
        for window in shown
    ]  # fmt: skip
    cells = room_for_bars(columns, rows, BAR_CELLS)
    if cells:
        columns.append(Column("", style="cyan", is_cut=True))
        rows = [
            [*row, bar(min(window.settled, window.limit), window.limit, cells)]
            for row, window in zip(rows, shown, strict=True)
        ]
    write_table(columns, rows)
    write(f"A full bar is the limit, {amount_text(found.budget.limit, unit)}.")
    if found.windows_count > len(shown):
        write(f"{count_text(found.windows_count - len(shown))} windows are not shown; --json tells more.")


def _shown(windows: list[SimulatedWindow]) -> list[SimulatedWindow]:
    """Return the windows for a table: all of few, of many those that refused."""
    if len(windows) <= WINDOWS_SHOWN:
        return windows
    refusing = [window for window in windows if window.refused]
    return (refusing or windows)[:WINDOWS_SHOWN]


def _write_refusals(found: Simulation) -> None:
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        *map(Column, ("at", "agent", "model", "run", "why")),
        *(Column(name, is_number=True) for name in ("asked", "spent by then")),
        Column("event"),
    ]  # fmt: skip
    unit = found.budget.unit
    rows = [
        [
            moment_text(one.at, found.budget.timezone, to_seconds=True), one.agent or "-", one.model or "-",
            one.run or "-", one.reason.replace("_", " "),
            "unpriced" if one.amount is None else amount_text(one.amount, unit),
            "-" if one.settled is None else amount_text(one.settled, unit), one.event_id,
        ]
        for one in found.refusals[:REFUSALS_SHOWN]
    ]  # fmt: skip
    write_table(columns, rows)
