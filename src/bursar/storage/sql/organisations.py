"""Organisations."""

from collections.abc import Mapping

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import Conflict, NotFound
from bursar.core.ids import Org, text_from_id
from bursar.directory.organisations import Organisation, Quotas, SubscriptionStatus
from bursar.storage.sql.ports import EVERY_ORG, Connection, Readers, Row, Store, Transaction

_COLUMNS = """org, id, name, zone, currency, cost_basis, created_at, deleted_at, subscription_status, plan,
    events_per_day, burst_per_s, max_agents, display"""
_LIST = f"SELECT {_COLUMNS} FROM organisation ORDER BY org"
_GET = f"SELECT {_COLUMNS} FROM organisation WHERE org = ?"
_LAST = "SELECT coalesce(max(org), 0) FROM organisation"
_TAKEN = "SELECT 1 FROM organisation WHERE name = ? AND org <> ?"
_INSERT = f"""INSERT INTO organisation ({_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPDATE = """UPDATE organisation SET name = ?, zone = ?, deleted_at = ?, subscription_status = ?, plan = ?,
    events_per_day = ?, burst_per_s = ?, max_agents = ?, display = ? WHERE org = ?"""
_NUMBERED_MAX = 10_000


class SqlOrganisations:
    """`directory.organisations.OrganisationStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def get(self, org: Org) -> Organisation:
        """Return one organisation, a deleted one too."""
        return await self._readers.run_short(org, lambda one: _get(one, org))

    async def create(self, organisation: Organisation, *, actor: str) -> Organisation:
        """Store a new organisation."""

        async def work(transaction: Transaction) -> Organisation:
            return await insert_organisation(transaction, organisation, actor=actor)

        return await self._store.transact(work)

    async def change(self, org: Org, changes: Mapping[str, object], *, at: int, actor: str) -> Organisation:
        """Replace fields of an organisation and write who did."""

        async def work(transaction: Transaction) -> Organisation:
            # Names are unique among all organisations; everything else is the organisation's own affair.
            connection = transaction.everywhere if "name" in changes else transaction.unit(org).connection
            unit = transaction.unit(org)
            before = _get(connection, org)
            after = msgspec.structs.replace(before, **changes)
            if connection.execute(_TAKEN, (after.name, org)).fetchone():
                raise Conflict(f"an organisation named {after.name!r} already exists", field="name")
            if after == before:
                return after
            connection.execute(_UPDATE, (*_changing_cells(after), org))
            entry = AuditEntry(
                at=at,
                actor=actor,
                action="organisation.change",
                target=text_from_id("org", after.id),
                details={name: msgspec.to_builtins(getattr(after, name)) for name in changes},
            )
            await unit.record(entry)
            return after

        return await self._store.transact(work)

    async def list(self) -> list[Organisation]:
        """Return all organisations, oldest first, deleted ones too."""
        return [
            _organisation_from_row(row)
            for row in await self._readers.run_short(EVERY_ORG, lambda one: one.execute(_LIST).fetchall())
        ]


async def insert_organisation(
    transaction: Transaction, organisation: Organisation, *, actor: str, may_number: bool = False
) -> Organisation:
    """Store a new organisation within a transaction; for this package's own use.

    With `may_number` a taken name gets a number behind it instead of a refusal.

    Raises:
        Conflict: The name is taken.
    """
    connection = transaction.everywhere
    name = organisation.name
    number = 1
    while connection.execute(_TAKEN, (name, 0)).fetchone():
        number += 1
        if not may_number or number > _NUMBERED_MAX:
            raise Conflict(f"an organisation named {organisation.name!r} already exists", field="name")
        name = f"{organisation.name} ({number})"
    last = connection.execute(_LAST).fetchone()[0]
    made = msgspec.structs.replace(organisation, name=name, org=Org(last + 1))
    connection.execute(
        _INSERT,
        (made.org, made.id, made.name, made.zone, made.currency, made.cost_basis, made.created_at,
         *_changing_cells(made)[2:]),
    )  # fmt: skip
    entry = AuditEntry(
        at=made.created_at,
        actor=actor,
        action="organisation.create",
        target=text_from_id("org", made.id),
        details={"name": made.name},
    )
    await transaction.unit(made.org).record(entry)
    return made


def _get(connection: Connection, org: Org) -> Organisation:
    row = connection.execute(_GET, (org,)).fetchone()
    if row is None:
        raise NotFound("no such organisation", field="organisation")
    return _organisation_from_row(row)


def _changing_cells(made: Organisation) -> tuple[object, ...]:
    """Return the columns that may change, in the order of `_UPDATE`."""
    quotas = made.quotas
    display = msgspec.json.encode(made.display).decode()
    return (made.name, made.zone, made.deleted_at, made.subscription_status.value, made.plan,
            quotas.events_per_day, quotas.burst_per_s, quotas.max_agents, display)  # fmt: skip


def _organisation_from_row(row: Row) -> Organisation:
    org, org_id, name, zone, currency, basis, created, deleted, status, plan, day, burst, agents, display = (
        row
    )
    return Organisation(
        org=Org(org),
        id=org_id,
        name=name,
        zone=zone,
        currency=currency,
        cost_basis=basis,
        created_at=created,
        deleted_at=deleted,
        subscription_status=SubscriptionStatus(status),
        plan=plan,
        quotas=Quotas(events_per_day=day, burst_per_s=burst, max_agents=agents),
        display=msgspec.json.decode(display, type=dict[str, object]),
    )
