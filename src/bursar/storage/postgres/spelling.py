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
    | (?P<word>(?<![\w.])user\b(?!\s*\())
    """,
    re.VERBOSE,
)


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
    count = 0

    def other(match: re.Match[str]) -> str:
        nonlocal count
        if match["hint"]:
            return ""
        if match["place"]:
            count += 1
            return f"${match['number'] or count}"
        if match["named"]:
            return f"${names.setdefault(match['name'], len(names) + 1)}"
        return '"user"' if match["word"] else match[0]

    text = _TOKENS.sub(other, sql)
    words = re.sub(r"--[^\n]*", "", text).split(None, 1)
    gives_rows = words[0].upper() in {"SELECT", "WITH", "VALUES", "SHOW"} or " RETURNING " in text.upper()
    return Spelled(text, tuple(names), gives_rows)
