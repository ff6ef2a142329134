"""A budget's past as people see it: its windows, what filled one, its alerts.

answers of /v1/budgets/{id}/…  →  Window, Explained, Alert  →  text for standard output

Not here: how it stands now (`budget_views`).
"""

from collections.abc import Sequence
from decimal import Decimal

from bursar.cli.budget_answers import Alert, Budget, Explained, Hold, Window
from bursar.cli.budget_views import (
    EXCESS,
    amount_text,
    excess_of,
    figures_of,
    line,
    span_of,
    use_bar,
)
from bursar.cli.figures import BAR_CELLS, share_text
from bursar.cli.moments import moment_text
from bursar.cli.output import write


def write_windows(budget: Budget, windows: Sequence[Window]) -> None:
    """Write a budget's windows, newest first as given; columns of excess where there is some."""
    from bursar.cli.tables import Column, room_for_bars, write_table  # noqa: PLC0415 - see `main`

    has_runs = any(window.run for window in windows)
    has_unpriced = any(window.unpriced for window in windows)
    excess = [label for label in EXCESS if any(excess_of(window)[label] for window in windows)]
    columns = [
        Column("from"), Column("to"), *([Column("run")] if has_runs else []), Column("state"),
        *(Column(label, is_number=True) for label in ("limit", "spent", "held", "left", *excess)),
        *([Column("unpriced", is_number=True)] if has_unpriced else []),
        Column("used", is_number=True),
    ]  # fmt: skip
    rows = []
    for window in windows:
        amounts = [window.limit, window.settled, window.held, window.remaining]
        rows.append([
            moment_text(window.starts_at, budget.timezone), moment_text(window.ends_at, budget.timezone),
            *([window.run or "-"] if has_runs else []), window.state,
            *figures_of(budget, [*amounts, *(excess_of(window)[label] for label in excess)]),
            *([f"{window.unpriced:,}"] if has_unpriced else []), share_text(window.used, window.limit),
        ])  # fmt: skip
    cells = room_for_bars(columns, rows, BAR_CELLS) if rows else 0
    if cells:
        columns.append(Column("", style="cyan", is_cut=True))
        rows = [[*row, use_bar(window, cells)] for row, window in zip(rows, windows, strict=True)]
    write_table(columns, rows, empty="no window yet: nothing was spent or held")


def write_explained(budget: Budget, found: Explained) -> None:
    """Write a window as it stood, who held room in it, and what was spent."""
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    zone = budget.timezone
    write(f"{budget.title} ({budget.id}) at {moment_text(found.at, zone)} {zone}")
    if found.window is None:
        write("  no window: nothing was spent or held by then")
        return
    write(line("window", span_of(found.window, zone)))
    then = found.window
    known = {"limit": then.limit, "spent": then.settled, "held": then.held, "left": then.remaining}
    for label, amount in known.items():
        write(line(label, "not known any more" if amount is None else amount_text(amount, budget.unit)))
    names = ("since", "agent", "model", "state", "until")
    columns = [*map(Column, names), Column("amount", is_number=True), Column("hold")]
    held = [
        [moment_text(one.created_at, zone, to_seconds=True), one.agent or "-", one.model or "-", one.state,
         moment_text(one.expires_at, zone, to_seconds=True), amount_text(one.amount, budget.unit), one.id]
        for one in found.holds
    ]  # fmt: skip
    write("\nHeld:")
    write_table(columns, held, empty="  nothing was held")
    if found.holds_count > len(held):
        write(f"  {found.holds_count - len(held):,} more were held.")
    columns = [*map(Column, ("at", "agent", "effect")), Column("amount", is_number=True), Column("by")]
    spent = [
        [moment_text(one.at, zone, to_seconds=True), one.agent or "-", one.effect,
         amount_text(one.amount, budget.unit), one.hold_id or one.event_id or "-"]
        for one in found.spend
    ]  # fmt: skip
    write("\nSpent:")
    write_table(columns, spent, empty="  nothing was spent")
    if found.has_more:
        write(f"More: --cursor {found.next_cursor}")


def write_alerts(budget: Budget, alerts: Sequence[Alert]) -> None:
    """Write a budget's alerts, newest first as given."""
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        *map(Column, ("at", "alert", "agent")),
        Column("amount", is_number=True), Column("threshold", is_number=True), Column("caused by"),
    ]  # fmt: skip
    rows = [
        [
            moment_text(one.at, budget.timezone, to_seconds=True), one.type, one.agent or "-",
            "-" if one.amount is None else amount_text(one.amount, budget.unit),
            "-" if one.threshold is None else share_text(one.threshold, Decimal(1)),
            one.hold_id or one.event_id or "-",
        ]
        for one in alerts
    ]  # fmt: skip
    write_table(columns, rows, empty="no alerts")


def write_holders(budget: Budget, holds: Sequence[Hold]) -> None:
    """Write who holds room in a budget, and until when."""
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    zone = budget.timezone
    columns = [
        *map(Column, ("since", "agent", "model", "run")), Column("amount", is_number=True),
        Column("until"), Column("hold"),
    ]  # fmt: skip
    rows = []
    for hold in holds:
        part = next((one for one in hold.windows if one.budget_id == budget.id), None)
        rows.append([
            moment_text(hold.created_at, zone, to_seconds=True), hold.agent or "-", hold.model or "-",
            hold.run or "-", "-" if part is None else amount_text(part.amount, budget.unit),
            moment_text(hold.expires_at, zone, to_seconds=True), hold.id,
        ])  # fmt: skip
    write_table(columns, rows)
