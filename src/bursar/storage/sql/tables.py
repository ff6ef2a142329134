"""What a ledger is made of, as its database itself tells it, so that no new table is forgotten.

    schema of an engine  →  Table(columns, key)  →  statements that read, fill and sum it up

A table that exists is moved, one with another name or column on the other side is refused.
Generated columns are not written, but added up: the other side has to work out the same.

Not here: how an engine lists its tables (`sqlite.tables`, `postgres.tables`).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from bursar.core.errors import InvalidInput

OWN = frozenset({"alembic_version", "schema_step", "half_filled", "change_mark"})
"""Tables about a database, not about the ledger in it: they stay where they are."""

NUL = "\x00"
SHOWN_NUL = "\ufffd"
"""PostgreSQL keeps no NUL in text: what has one is kept with this in its place."""


class Form(StrEnum):
    """The three sorts of values that both engines keep."""

    INTEGER = "INTEGER"
    TEXT = "TEXT"
    BLOB = "BLOB"


class Column(NamedTuple):
    """A column that is written, not worked out."""

    name: str
    form: Form


class Table(NamedTuple):
    """A table of the ledger.

    Attributes:
        columns: Those that are written.
        key: Its primary key's columns, in order.
        derived: Numbers that the database works out of the others.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    derived: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def list(self) -> str:
        """Its columns as SQL; quoted, since one of them is a reserved word."""
        return listed(self.names)

    @property
    def order(self) -> str:
        """Its key's columns as SQL."""
        return listed(self.key)

    @property
    def summed(self) -> tuple[str, ...]:
        """The columns whose sums are compared: every number that is not part of the key."""
        numbers = (one.name for one in self.columns if one.form is Form.INTEGER and one.name not in self.key)
        return (*numbers, *self.derived)

    @property
    def org(self) -> str:
        """SQL for the organisation that a row belongs to, 0 in tables of the whole installation."""
        return '"org"' if "org" in self.names else "0"

    def key_of(self, row: Sequence[object]) -> tuple[object, ...]:
        """Return the key of a row that has all columns in order."""
        return tuple(row[self.names.index(name)] for name in self.key)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in SQL."""
    return ", ".join(f'"{name}"' for name in names)


def matched(source: Sequence[Table], target: Sequence[Table]) -> list[Table]:
    """Return the tables to copy; both sides must have the same ones, column for column.

    Raises:
        InvalidInput: They have not; the sentence names what differs.
    """
    there = {table.name: table for table in target}
    here = {table.name for table in source}
    odd = sorted(here ^ there.keys())
    odd += [one.name for one in source if one.name in there and not _is_alike(one, there[one.name])]
    if odd:
        raise InvalidInput(
            f"the two databases differ in what they keep ({', '.join(odd)}); nothing was copied"
        )
    return list(source)


def _is_alike(one: Table, other: Table) -> bool:
    names = (one.key, set(one.columns), set(one.derived))
    return names == (other.key, set(other.columns), set(other.derived))


class Figures(NamedTuple):
    """What the rows of one organisation in one table come to.

    Attributes:
        rows: How many there are.
        content: A sum over the digests of all rows: another value in any column of any row changes it.
        sums: Of `Table.summed`, in that order.
        nuls: Texts with a NUL, which the other engine keeps as U+FFFD.
    """

    rows: int
    content: int
    sums: tuple[int, ...]
    nuls: int = 0


ByOrg = Mapping[int, Figures]


class TableProof(NamedTuple):
    """One table, looked at on both sides."""

    table: Table
    source: ByOrg
    target: ByOrg

    @property
    def rows(self) -> int:
        """How many rows the source has."""
        return sum(one.rows for one in self.source.values())

    @property
    def found(self) -> int:
        """How many rows the target has."""
        return sum(one.rows for one in self.target.values())

    @property
    def nuls(self) -> int:
        """How many texts had a NUL."""
        return sum(one.nuls for one in self.source.values())

    @property
    def sums(self) -> dict[str, int]:
        """The source's sums by column, over all organisations."""
        return {
            name: sum(one.sums[place] for one in self.source.values())
            for place, name in enumerate(self.table.summed)
        }

    @property
    def differing(self) -> list[int]:
        """The organisations of which anything differs."""
        orgs = sorted(self.source.keys() | self.target.keys())
        return [org for org in orgs if _plain(self.source.get(org)) != _plain(self.target.get(org))]


def _plain(figures: Figures | None) -> Figures | None:
    return None if figures is None else figures._replace(nuls=0)
