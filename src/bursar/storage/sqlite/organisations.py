"""Organisations in SQLite."""

import sqlite3

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import Conflict
from bursar.core.ids import Org, text_from_id
from bursar.directory.organisations import Organisation
from bursar.storage.sqlite.store import SqliteStore, SqliteTransaction

_LIST = "SELECT org, id, name, zone, currency, cost_basis, created_at FROM organisation ORDER BY org"
_LAST = "SELECT coalesce(max(org), 0) FROM organisation"
_TAKEN = "SELECT 1 FROM organisation WHERE name = ?"
_INSERT = """INSERT INTO organisation (org, id, name, zone, currency, cost_basis, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""


class SqliteOrganisations:
    """`directory.organisations.OrganisationStore` over the one file."""

    def __init__(self, store: SqliteStore, reader: sqlite3.Connection) -> None:
        self._store = store
        self._reader = reader

    async def list(self) -> list[Organisation]:
        """Return all organisations, oldest first."""
        return [
            Organisation(
                org=Org(org), id=uid, name=name, zone=zone, currency=currency, cost_basis=basis, created_at=at
            )
            for org, uid, name, zone, currency, basis, at in self._reader.execute(_LIST)
        ]

    async def create(self, organisation: Organisation, *, actor: str) -> Organisation:
        """Store a new organisation."""

        async def work(transaction: SqliteTransaction) -> Organisation:
            connection = transaction.connection
            if connection.execute(_TAKEN, (organisation.name,)).fetchone():
                raise Conflict(f"an organisation named {organisation.name!r} already exists", field="name")
            made = msgspec.structs.replace(organisation, org=Org(connection.execute(_LAST).fetchone()[0] + 1))
            connection.execute(
                _INSERT,
                (made.org, made.id, made.name, made.zone, made.currency, made.cost_basis, made.created_at),
            )
            entry = AuditEntry(
                at=made.created_at,
                actor=actor,
                action="organisation.create",
                target=text_from_id("org", made.id),
                details={"name": made.name},
            )
            await transaction.unit(made.org).record(entry)
            return made

        return await self._store.transact(work)
