"""Lists that the API gives page by page: one page for a person, all of them for a lookup.

Not here: what the items are; they stay as they came, so that `--json` passes on every digit.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from bursar.cli.output import write

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

Kind = TypeVar("Kind")

PAGE = 200

Limit = Annotated[int, typer.Option(min=1, max=PAGE, help="Most rows.")]
Cursor = Annotated[str | None, typer.Option(help="Where the page before ended.")]


class Page(msgspec.Struct, frozen=True):
    """One page of a list, its items undecoded."""

    data: list[msgspec.Raw]
    has_more: bool
    next_cursor: str | None

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the items as `kind`."""
        return [msgspec.json.decode(item, type=kind) for item in self.data]

    def write_more(self) -> None:
        """Say how to see the next page, where there is one."""
        if self.has_more:
            write(f"More: --cursor {self.next_cursor}")


def page_of(connection: "Connection", path: str, asked: Mapping[str, str | int | None]) -> Page:
    """Return one page of a list; filters that are None are left out."""
    return connection.get(path, {n: value for n, value in asked.items() if value is not None}, kind=Page)


def whole_list(
    connection: "Connection", path: str, asked: Mapping[str, str | int | None] | None = None
) -> list[msgspec.Raw]:
    """Return every item of a list that is short by nature, such as budgets."""
    found: list[msgspec.Raw] = []
    cursor: str | None = None
    while True:
        page = page_of(connection, path, {**(asked or {}), "limit": PAGE, "cursor": cursor})
        found += page.data
        cursor = page.next_cursor
        if not page.has_more or cursor is None:
            return found
