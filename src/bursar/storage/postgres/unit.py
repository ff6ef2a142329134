"""`storage.sql.unit.SqlUnit` with what PostgreSQL does in its own way."""

from collections.abc import Callable

from bursar.core.ids import Org
from bursar.storage.postgres.budgets import PostgresBudgets
from bursar.storage.sql.directory import SqlDirectory
from bursar.storage.sql.ledger import SqlLedger
from bursar.storage.sql.ports import Connection
from bursar.storage.sql.unit import SqlUnit


class PostgresUnit(SqlUnit):
    """One organisation within one transaction.

    `hear` is told by which time the organisation's budgets were decided last.
    """

    def __init__(
        self,
        connection: Connection,
        org: Org,
        directory: SqlDirectory,
        ledger: SqlLedger,
        hear: Callable[[int], None],
    ) -> None:
        super().__init__(connection, org, directory, ledger)
        self._budgets = PostgresBudgets(connection, org, directory.know_agent, hear)

    @property
    def budgets(self) -> PostgresBudgets:
        """Its budgets."""
        return self._budgets
