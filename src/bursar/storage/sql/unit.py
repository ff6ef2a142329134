"""One organisation within one transaction: what the pipeline, the desk and this package's stores get."""

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.ids import Org
from bursar.storage.sql.alert_configs import SqlConfigs
from bursar.storage.sql.budgets import SqlBudgets
from bursar.storage.sql.directory import SqlDirectory
from bursar.storage.sql.ledger import SqlLedger
from bursar.storage.sql.ports import Connection

_INSERT_AUDIT = """INSERT INTO audit (org, seq, at, actor, action, target, details)
    VALUES (?1, coalesce((SELECT max(seq) FROM audit WHERE org = ?1), 0) + 1, ?2, ?3, ?4, ?5, ?6)"""


class SqlUnit:
    """`UnitOfWork` of `ingestion` and of `enforcement`; an engine's own has its own ledger and budgets."""

    def __init__(self, connection: Connection, org: Org, directory: SqlDirectory, ledger: SqlLedger) -> None:
        self.connection = connection
        self.org = org
        self.directory = directory
        self.ledger = ledger

    @property
    def budgets(self) -> SqlBudgets:
        """Its budgets."""
        return SqlBudgets(self.connection, self.org, self.directory.know_agent)

    @property
    def configs(self) -> SqlConfigs:
        """Its alert configs, and what its clients asked for."""
        return SqlConfigs(self.connection, self.org, self.directory.know_agent)

    async def record(self, entry: AuditEntry) -> None:
        """Append to the organisation's audit log."""
        details = None if entry.details is None else msgspec.json.encode(entry.details).decode()
        row = (self.org, entry.at, entry.actor, entry.action, entry.target, details)
        self.connection.execute(_INSERT_AUDIT, row)
