"""Budgets as people see them: in a sentence, in a table, with bars of use.

answers of /v1/budgets  →  Budget  →  text for standard output

Amounts are decimals in the budget's unit. Not here: the requests (`budgets`), a budget's
past (`window_views`), what a simulation found (`simulation_views`).
"""

from collections.abc import Sequence
from decimal import Decimal

from bursar.cli.budget_answers import Budget, Rules, Threshold, Window, WindowThen, scope_text
from bursar.cli.figures import BAR_CELLS, bar, money_decimals, money_text, rate_text, share_text
from bursar.cli.moments import moment_text, seconds_until, span_text
from bursar.cli.output import write

PER = {
    "minute": "a minute", "hourly": "an hour", "daily": "a day", "weekly": "a week",
    "monthly": "a month", "quarterly": "a quarter", "total": "in total", "run": "a run",
    "session_5h": "in 5 hours", "session_7d": "in 7 days",
}  # fmt: skip


_WHAT = {
    "cost": "spend {}", "calls": "make {}", "duration": "call for {}", "loops": "repeat calls {}",
    "depth": "nest calls by {}",
}  # fmt: skip


def amount_text(amount: Decimal, unit: str) -> str:
    """Return an amount with its unit, to the last digit.

    Example:
        >>> amount_text(Decimal("1.00"), "USD"), amount_text(Decimal(12_000), "tokens")
        ('$1.00', '12,000 tokens')
    """
    if unit == "USD":
        return rate_text(amount)
    word = "times" if unit == "loops" else unit
    return f"{amount:,f} {word.removesuffix('s') if amount == 1 and word != 'ms' else word}"


def limit_text(budget: Rules) -> str:
    """Return a limit with its period: "$1.00 a day"."""
    return f"{amount_text(budget.limit, budget.unit)} {PER.get(budget.period, budget.period)}"


def write_made(budget: Budget) -> None:
    """Write what was made, where it stands, and when it begins anew."""
    kind = "Template" if budget.template else "Budget"
    name = f"{budget.name!r} ({budget.id})" if budget.name else budget.id
    write(f"{kind} {name}: {sentence_of(budget)}")
    if budget.window is not None and not budget.template:
        write(_standing(budget, budget.window))
    write(f"  {thresholds_text(budget)}")


def sentence_of(budget: Rules) -> str:
    """Return in one sentence who may spend how much, and whether that is a rule or a hope."""
    who = scope_text(budget.scope)
    if budget.template:
        who = "every agent" + (f" with {who}" if budget.scope else "")
    end = "and is refused beyond" if budget.mode == "hard" else "and is told beyond (soft)"
    what = _WHAT.get(budget.metric, "use {}").format(amount_text(budget.limit, budget.unit))
    return f"{who} may {what} {PER.get(budget.period, budget.period)}, {end}."


def thresholds_text(budget: Rules) -> str:
    """Return what happens at which share of the limit."""
    parts = []
    for one in budget.thresholds:
        action = one.action
        if one.max_output_tokens is not None:
            action += f" output to {one.max_output_tokens:,} tokens"
        parts.append(f"{one.at * 100:f}".rstrip("0").rstrip(".") + f" %: {action}" + _latched(one))
    return "at " + "; ".join(parts) if parts else "no thresholds"


def _latched(threshold: Threshold) -> str:
    return " until a person resumes it" if threshold.latch else ""


def _standing(budget: Budget, window: Window) -> str:
    spent, held, left = (
        amount_text(amount, budget.unit) for amount in (window.settled, window.held, window.remaining)
    )
    return f"  spent {spent}, held {held}, left {left}; {reset_text(budget, window)}"


def reset_text(budget: Budget, window: Window) -> str:
    """Return when a window begins anew, by the budget's clocks and from now."""
    if window.resets_at is None:
        return "never resets"
    left = span_text(seconds_until(window.resets_at))
    return f"resets at {moment_text(window.resets_at, budget.timezone)} {budget.timezone}, in {left}"


def write_budgets(budgets: Sequence[Budget]) -> None:
    """Write a table of budgets, with a bar of what is spent and held where there is room."""
    from bursar.cli.tables import Column, room_for_bars, write_table  # noqa: PLC0415 - see `main`

    columns = [
        Column("name"), Column("for", is_wrapped=True), Column("limit", is_number=True),
        *(Column(name, is_number=True) for name in ("spent", "held", "left", "used")),
        Column("resets"), Column("state"), Column("id"),
    ]  # fmt: skip
    rows = [_row(budget) for budget in budgets]
    cells = room_for_bars(columns, rows, BAR_CELLS) if rows else 0
    if cells:
        columns.insert(7, Column("", style="cyan", is_cut=True))
        for row, budget in zip(rows, budgets, strict=True):
            row.insert(7, use_bar(budget.window, cells))
    write_table(columns, rows, empty="no budgets yet: `bursar budgets create 1 --agent NAME` makes one")


def _row(budget: Budget) -> list[str]:
    window = budget.window
    figures = ["-"] * 5
    if window is not None and not budget.template:
        figures = [
            *figures_of(budget, (window.settled, window.held, window.remaining)),
            share_text(window.used, window.limit),
            "-" if window.resets_at is None else f"in {span_text(seconds_until(window.resets_at))}",
        ]
    state = "template" if budget.template else budget.budget_state
    if budget.mode != "hard":
        state += ", soft"
    return [
        budget.name or "-", scope_text(budget.scope), limit_text(budget), *figures, state, budget.id
    ]  # fmt: skip


def figures_of(budget: Rules, amounts: Sequence[Decimal]) -> list[str]:
    """Return amounts for a table's row without a unit, with as many digits as the limit deserves."""
    if budget.unit != "USD":
        return [f"{amount:,f}" for amount in amounts]
    decimals = money_decimals([budget.limit])
    return [money_text(amount, decimals) for amount in amounts]


def use_bar(window: Window | None, cells: int) -> str:
    """Return a bar of what is spent and held; a window that is full or above it fills the cells."""
    if window is None:
        return ""
    return bar(min(window.used, window.limit), window.limit, cells)


def write_budget(budget: Budget) -> None:
    """Write everything about one budget but its past."""
    write(f"{budget.title} ({budget.id})")
    write(f"  {sentence_of(budget)}")
    window = budget.window
    if window is not None and not budget.template:
        write(line("window", span_of(window, budget.timezone)))
        for label, amount in amounts_of(window).items():
            write(line(label, amount_text(amount, budget.unit)))
        write(line("used", f"{share_text(window.used, window.limit)} {use_bar(window, BAR_CELLS)}".rstrip()))
        if window.unpriced:
            write(line("unpriced", f"{window.unpriced:,} calls without a known price, in no figure above"))
        write(line("then", reset_text(budget, window)))
    write(line("thresholds", thresholds_text(budget)))
    write(line("rules", f"{budget.metric}, unpriced {budget.unpriced}, on expiry {budget.on_expiry}, "
                         f"asking first {budget.enforcement}"))  # fmt: skip


def line(label: str, text: str) -> str:
    """Return one line of a list of facts."""
    return f"  {label:<12} {text}"


def span_of(window: Window | WindowThen, zone: str) -> str:
    """Return from when to when a window counts, by a zone's clocks, and its state."""
    end = "without an end" if window.ends_at is None else f"to {moment_text(window.ends_at, zone)}"
    run = f", run {window.run}" if window.run else ""
    return f"from {moment_text(window.starts_at, zone)} {end} {zone}, {window.state}{run}"


def amounts_of(window: Window) -> dict[str, Decimal]:
    """Return the figures of a window that are worth a line."""
    excess = {label: amount for label, amount in excess_of(window).items() if amount}
    return {
        "limit": window.limit, "spent": window.settled, "held": window.held, "left": window.remaining,
    } | excess  # fmt: skip


EXCESS = ("above holds", "not asked", "lowered", "late")


def excess_of(window: Window) -> dict[str, Decimal]:
    """Return what explains a window above its limit, or that its hands were bound."""
    amounts = (window.overrun, window.unheld, window.lowered, window.late)
    return dict(zip(EXCESS, amounts, strict=True))
