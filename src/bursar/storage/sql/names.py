"""Names to row numbers for filters, and row numbers to names for answers, when reading.

Names are looked up for the few rows of an answer, after grouping and cutting to its limit;
they are never joined to each row that is summed.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from bursar.analytics.query import NOT_GIVEN, Dim, Span
from bursar.core.errors import InvalidInput
from bursar.core.ids import Org, id_from_text, key_from_text
from bursar.core.usage import Billing
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.ports import Connection

PROVIDER = "CASE provider WHEN '' THEN canonical_provider ELSE provider END"
"""The provider of a model row as readers see it: as sent, else the one it was taken for."""

_TABLES = {
    Dim.AGENT: ("agent", "agent"),
    Dim.PROJECT: ("project", "project"),
    Dim.FEATURE: ("feature", "feature"),
    Dim.USER: ("user_label", "user"),
}
_WITH_ID = {Dim.AGENT, Dim.PROJECT}
_BILLING = {billing.name.lower(): int(billing) for billing in Billing}
_MODELS = f"""SELECT model FROM model WHERE org = ?1 AND (name = ?2 OR ?2 IS NULL)
    AND ({PROVIDER} = ?3 OR ?3 IS NULL)"""
_RUN_SPAN = "SELECT first_at, last_at FROM run WHERE org = ? AND run = ?"
_UUID = " || '-' || ".join(
    f"substr({{digits}}, {start}, {length})" for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
)
_BILLING_NAME = " ".join(f"WHEN {number} THEN '{name}'" for name, number in _BILLING.items())
_LABELS = {
    Dim.PROVIDER: {"provider": "nullif({key}, '')"},
    Dim.BILLING: {"billing": f"CASE {{key}} {_BILLING_NAME} END"},
    Dim.MODEL: {
        "model": "(SELECT name FROM model WHERE org = :org AND model = {key})",
        "provider": f"(SELECT nullif({PROVIDER}, '') FROM model WHERE org = :org AND model = {{key}})",
    },
    # A run whose id is a UUID keeps no second copy of it as text.
    Dim.RUN: {
        "run": f"""CASE WHEN {{key}} IS NOT NULL THEN
            coalesce((SELECT external_id FROM run WHERE org = :org AND run = {{key}}), {_UUID}) END"""
    },
} | {
    dim: {dim.value: f"(SELECT name FROM {table} WHERE org = :org AND {column} = {{key}})"}
    for dim, (table, column) in _TABLES.items()
}


class Condition(NamedTuple):
    """`column` must be `value`, or one of a JSON array of numbers when `many`."""

    column: str
    value: int | bytes | str | None
    many: bool = False

    def sql(self, dialect: Dialect, alias: str) -> str:
        """Return the test for a table named `alias`, with a parameter named as the column."""
        column = f"{alias}.{self.column}"
        if self.many:
            return f"{column} IN ({dialect.numbers(f':f_{self.column}')})"
        return f"{column} IS NULL" if self.value is None else f"{column} = :f_{self.column}"


class Conditions(NamedTuple):
    """What filters came to: tests of columns, and the span that holds all that can pass."""

    tests: list[Condition]
    within: Span | None

    def sql(self, dialect: Dialect, alias: str) -> str:
        """Return all tests, each with a leading AND."""
        return "".join(f" AND {test.sql(dialect, alias)}" for test in self.tests)

    @property
    def parameters(self) -> dict[str, int | bytes | str | None]:
        """The named parameters of `sql`."""
        return {f"f_{test.column}": test.value for test in self.tests}


def conditions(connection: Connection, org: Org, filters: Mapping[Dim, str]) -> Conditions | None:
    """Return what `filters` select, None when a name is unknown and nothing can pass."""
    tests: list[Condition] = []
    within: Span | None = None
    for dim, name in filters.items():
        if dim in {Dim.MODEL, Dim.PROVIDER}:
            continue
        value: int | bytes | None
        if dim is Dim.RUN:
            value, within = _run(connection, org, name)
        else:
            value = _number(connection, org, dim, name)
        if value is None and not (dim is Dim.RUN and name == NOT_GIVEN):
            return None
        tests.append(Condition(dim.value, value))
    if filters.keys() & {Dim.MODEL, Dim.PROVIDER}:
        wanted = (org, filters.get(Dim.MODEL), filters.get(Dim.PROVIDER))
        models = [row[0] for row in connection.execute(_MODELS, wanted)]
        if not models:
            return None
        tests.append(Condition("model", json.dumps(models), many=True))
    return Conditions(tests, within)


def label_columns(dialect: Dialect, dim: Dim, key: str) -> dict[str, str]:
    """Return what an answer says of a dimension: label → SQL that finds its name.

    `key` is the column with the row number (a provider's with its name); 0 and NULL have
    no name.
    """
    digits = dialect.hexadecimal(key)
    return {label: sql.format(key=key, digits=digits) for label, sql in _LABELS[dim].items()}


def _run(connection: Connection, org: Org, name: str) -> tuple[bytes | None, Span | None]:
    """Return a run's 16 bytes and the span of its events; None for one that is unknown."""
    if name == NOT_GIVEN:
        return None, None
    for run in (key_from_text(name), _id_or_none(name)):
        row = None if run is None else connection.execute(_RUN_SPAN, (org, run)).fetchone()
        if row is not None:
            return run, Span(row[0], row[1] + 1)
    return None, None


def _number(connection: Connection, org: Org, dim: Dim, name: str) -> int | None:
    """Return a name's row number, 0 for "not given", None for an unknown one."""
    if dim is Dim.BILLING:
        if name not in _BILLING:
            raise InvalidInput(f"billing must be one of {', '.join(_BILLING)}", field="billing")
        return _BILLING[name]
    if name == NOT_GIVEN:
        return 0
    table, column = _TABLES[dim]
    row = connection.execute(
        f"SELECT {column} FROM {table} WHERE org = ? AND name = ?", (org, name)
    ).fetchone()
    if row is None and dim in _WITH_ID and (value := _id_or_none(name)) is not None:
        row = connection.execute(
            f"SELECT {column} FROM {table} WHERE org = ? AND id = ?", (org, value)
        ).fetchone()
    return None if row is None else int(row[0])


def _id_or_none(text: str) -> bytes | None:
    try:
        return id_from_text(text)
    except InvalidInput:
        return None
