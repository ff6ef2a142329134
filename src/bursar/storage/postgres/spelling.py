"""One text for both engines: what of it PostgreSQL spells in another way.

    SQL as `storage.sql` writes it  →  Spelled  →  SQL with $1, $2 … and the order of its parameters

Only spelling: placeholders, index hints (PostgreSQL has statistics instead), and the column
`user`, which is a reserved word. What differs in meaning is a `dialect.Dialect` fragment.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

SPELLED_MAX = 2_000
"""Different statements kept; the longest lists of parameters make most of them."""

_TOKENS = re.compile(
    r"""
    (?P<text>'(?:[^']|'')*')
    | (?P<comment>--[^\n]*)
    | (?P<quoted>"[^"]*")
    | (?P<cast>::)
    | (?P<hint>\s+(?:NOT\s+INDEXED|INDEXED\s+BY\s+\w+)\b)
    | (?P<place>\?(?P<number>\d*))
    | (?P<named>:(?P<name>[A-Za-z_]\w*))
    | (?P<word>\buser\b(?!\s*\())
    """,
    re.VERBOSE,
)
_UNSPOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*")
_GIVES_ROWS = re.compile(r"\A[\s(]*(?:SELECT|WITH|VALUES|SHOW|TABLE|EXPLAIN)\b|\bRETURNING\b", re.IGNORECASE)


class Spelled(NamedTuple):
    """A statement for the driver.

    Attributes:
        text: With `$1` and so on.
        names: Of named parameters in their order; empty for positional ones.
        gives_rows: Whether it answers with rows.
    """

    text: str
    names: tuple[str, ...]
    gives_rows: bool

    def ordered(self, parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
        """Return the parameters in the driver's order; names that the text does not use are left out."""
        if isinstance(parameters, Mapping):
            return [parameters[name] for name in self.names]
        return parameters


@lru_cache(SPELLED_MAX)
def spelled(sql: str) -> Spelled:
    """Return `sql` as PostgreSQL spells it."""
    names: dict[str, int] = {}
    largest = 0

    def other(match: re.Match[str]) -> str:
        nonlocal largest
        if match["hint"]:
            return ""
        if match["place"]:
            # A bare one is the next after the largest so far, as SQLite counts.
            number = int(match["number"]) if match["number"] else largest + 1
            largest = max(largest, number)
            return f"${number}"
        if match["named"]:
            return f"${names.setdefault(match['name'], len(names) + 1)}"
        return '"user"' if match["word"] else match[0]

    text = _TOKENS.sub(other, sql)
    gives_rows = _GIVES_ROWS.search(_UNSPOKEN.sub("", text)) is not None
    return Spelled(text, tuple(names), gives_rows)
