"""The few words in which the engines differ, each with what it must mean.

Not here: differences of spelling that a text can be freed of mechanically (placeholders,
index hints, the column named `user`); PostgreSQL's connection does that (`postgres.spelling`).
"""

from typing import Protocol


class Dialect(Protocol):
    """Fragments of SQL; arguments are SQL too."""

    name: str
    """`sqlite` or `postgres`, for reports; nothing decides by it."""

    transaction_number: str
    """The number of this transaction: later ones have larger numbers; 0 where nobody compares them."""

    def __hash__(self) -> int:
        """Tell it from others: statements are kept for each."""
        ...

    def numbers(self, parameter: str) -> str:
        """Return a SELECT of the integers in a JSON array, one a row, its column `value`."""
        ...

    def hexadecimal(self, column: str) -> str:
        """Return lower-case hexadecimal digits of a column of bytes."""
        ...

    def member(self, json_text: str, name: str) -> str:
        """Return member `name` of a column of JSON text as text, NULL where there is none."""
        ...

    def item(self, json_text: str, place: int) -> str:
        """Return item `place` (from 0) of a column with a JSON list as text, NULL where there is none."""
        ...

    def tuples(self, parameter: str, *columns: str) -> str:
        """Return a SELECT of lists of integers in a JSON array, one a row, its columns named."""
        ...

    def contains(self, column: str, parameter: str) -> str:
        """Return a test whether a column of bytes or text has a part that equals `parameter`."""
        ...

    def sought(self, outer: str, table: str, condition: str, *, is_outer: bool = False) -> str:
        """Return a FROM clause: for each row of `outer` its rows of `table`, found by an index.

        `table` is named `r`, and so are its rows; `is_outer` keeps rows of `outer` that have none.
        No plan may read `table` once and compare all of it with all of `outer`.
        """
        ...
