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
    for index, column in enumerate(columns):
        table.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            style=column.style,
            footer=Text(totals[index] if totals else "", style="bold"),
            no_wrap=not column.is_wrapped,
            overflow="crop" if column.is_cut else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    out = console()
    with out.capture() as captured:
        out.print(table)
    write("\n".join(_without_blank_ends(captured.get())))


def _without_blank_ends(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines()]
    return lines[1:-1] if lines and not (lines[0] or lines[-1]) else lines
