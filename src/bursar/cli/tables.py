"""Tables for people: plain aligned text, colour only on a terminal.

A table in a pipe or a file is as wide as its content, so that nothing is cut; on a
terminal it keeps to the width.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bursar.cli.output import say, write

_BETWEEN = 3
"""Columns of space that each column takes besides its content."""

_BAR_LEAST = 4
_TEXT_LEAST = 12
"""Characters that a text keeps in a narrow terminal."""

PIPE_WIDTH = 10_000
"""Columns where there is no terminal."""


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        style: Rich's, for terminals.
        is_cut: Too narrow a terminal may cut it without a sign.
        is_wrapped: Long text may go on in the next line, so that the others keep their width.
    """

    heading: str
    is_number: bool = False
    style: str = ""
    is_cut: bool = False
    is_wrapped: bool = False


def console() -> Console:
    """Return the console of standard output; NO_COLOR, FORCE_COLOR and TERM are honoured."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = PIPE_WIDTH
    return made


def write_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    totals: Sequence[str] | None = None,
    empty: str = "nothing to show",
) -> None:
    """Write `rows` under the headings of `columns`; `totals` stands below a line.

    Without rows it says `empty` on standard error.
    """
    if not rows:
        say(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, show_footer=totals is not None, pad_edge=False, header_style="bold")
    out = console()
    widths = fitted_widths(columns, [*rows, *([totals] if totals else [])], out.width)
    for index, column in enumerate(columns):
        table.add_column(
            column.heading,
            width=widths[index],
            justify="right" if column.is_number else "left",
            style=column.style,
            footer=Text(totals[index] if totals else "", style="bold"),
            no_wrap=not column.is_wrapped,
            overflow="crop" if column.is_cut else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    out.width = max(out.width, _total(widths))
    with out.capture() as captured:
        out.print(table)
    write("\n".join(_without_blank_ends(captured.get())))


def fitted_widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return each column's width so that the table fits `room`, as far as that is honest.

    What may be cut gives way first, then texts; a figure is never cut: half a number is a
    wrong number, so a table of too many figures is wider than the terminal.
    """
    widths = [
        max(len(column.heading), *(len(row[index]) for row in rows)) for index, column in enumerate(columns)
    ]
    excess = _total(widths) - room
    texts = sorted(
        (index for index, column in enumerate(columns) if not (column.is_cut or column.is_number)),
        key=widths.__getitem__,
        reverse=True,
    )
    bars = [index for index, column in enumerate(columns) if column.is_cut]
    for index, least in [*((index, 1) for index in bars), *((index, _TEXT_LEAST) for index in texts)]:
        given = min(max(0, excess), max(0, widths[index] - least))
        widths[index] -= given
        excess -= given
    return widths


def room_for_bars(columns: Sequence[Column], rows: Sequence[Sequence[str]], most: int) -> int:
    """Return how many characters a bar may have beside these columns on this terminal.

    At most `most`; 0 where bars would be too short to compare, and then they are best left out.
    """
    room = console().width - _total([*fitted_widths(columns, rows, PIPE_WIDTH), 0])
    return 0 if room < _BAR_LEAST else min(most, room)


def _total(widths: Sequence[int]) -> int:
    """Return the width of a table whose columns have these widths."""
    return sum(widths) + _BETWEEN * len(widths)


def _without_blank_ends(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines()]
    return lines[1:-1] if lines and not (lines[0] or lines[-1]) else lines
