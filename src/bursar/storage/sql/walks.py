"""Long lists, read a part at a time, and many rows by their ids.

An engine may fetch all rows of a statement before it gives the first one, so whoever may stop
early, because a page is full or enough was seen, asks for a few rows, then for more. A
place is what the list's order goes by; the statement begins behind it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

Place = TypeVar("Place")
Item = TypeVar("Item")

FIRST: Final = 100
MORE: Final = 4
MOST: Final = 2_000
"""Rows of the first part, how many times as many the next has, and at most: some 10 ms."""

TOGETHER: Final = 50
"""Rows that one statement asks for by their ids."""

TOGETHER_PARAMETERS: Final = ", ".join("?" * TOGETHER)


def walked(
    part: Callable[[Place, int], Iterable[Any]],
    place: Place,
    place_of: Callable[[Any], Place],
    *,
    first: int = FIRST,
) -> Iterator[Any]:
    """Yield the rows behind a place, read in parts of growing size.

    Args:
        part: Returns the first rows behind a place, that many at most.
        place: Where to begin.
        place_of: The place of a row.
        first: How many rows the first part has.
    """
    most = first
    while True:
        rows = list(part(place, most))
        yield from rows
        if len(rows) < most:
            return
        place = place_of(rows[-1])
        most = max(min(most * MORE, MOST), 1)


def by_ids(ids: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Yield the values of `TOGETHER_PARAMETERS` that ask for `ids`: the last part repeats one of them."""
    for few in together(dict.fromkeys(ids)):
        yield (*few, *(few[-1:] * (TOGETHER - len(few))))


def together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of `TOGETHER`; the last one may be shorter."""
    left = iter(items)
    while few := list(islice(left, TOGETHER)):
        yield few


def prefixed(columns: str, alias: str) -> str:
    """Return a list of columns as those of the table named `alias`."""
    return ", ".join(f"{alias}.{column.strip()}" for column in columns.split(","))
