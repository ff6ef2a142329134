"""`storage.sql.unit.SqlUnit` with what PostgreSQL does in its own way."""

from typing import ClassVar

from bursar.storage.postgres.budgets import PostgresBudgets
from bursar.storage.sql.budgets import SqlBudgets
from bursar.storage.sql.unit import SqlUnit


class PostgresUnit(SqlUnit):
    """One organisation within one transaction."""

    budgets_class: ClassVar[type[SqlBudgets]] = PostgresBudgets
