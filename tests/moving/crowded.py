"""A row in each table that has none, made from the table's own columns.

A new table gets one by itself; a column whose values are a few words needs one of them here.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from bursar.storage.sql.tables import Column, Form, Table
from bursar.storage.sqlite.copies import tables_of

WORDS = {
    ("budget", "mode"): "hard", ("budget", "unpriced"): "block", ("budget", "on_expiry"): "release",
    ("budget_window", "state"): "open", ("hold", "state"): "open", ("hold", "kind"): "call",
    ("posting", "effect"): "late", ("gate", "kind"): "agent", ("incident", "resolution"): "open",
    ("approval", "resolution"): "raised", ("membership", "role"): "owner",
}  # fmt: skip
AT_ONE = 1_772_366_400_000_000


def crowd(path: Path) -> list[Table]:
    """Give each empty table of the file a row of organisation 1; return all tables."""
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = tables_of(connection)
        for table in tables:
            if not connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{table.name}")').fetchone()[0]:
                places = ", ".join("?" * len(table.columns))
                values = [_value(table, column) for column in table.columns]
                connection.execute(f'INSERT INTO "{table.name}" ({table.list}) VALUES ({places})', values)
        return tables


def _value(table: Table, column: Column) -> object:
    if column.form is Form.TEXT:
        return WORDS.get((table.name, column.name), f"{table.name}: a | and ~ in {column.name}")
    if column.form is Form.BLOB:
        return (table.name + column.name).encode().ljust(16, b"\x00")[:16]
    return AT_ONE if column.name in {"ends_at", "expires_at"} else 1
