"""An organisation's price overrides, changed only together with an audit entry.

A row's `body` is the override as JSON; the columns beside it are its identity. `seq` grows
with every put, so that overrides are listed in the order in which they were put.

Not here: which override wins (`pricing.overrides`), what is unpriced (`prices_unpriced`).
"""

from collections.abc import Sequence

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import Conflict, InvalidInput, NotFound
from bursar.core.ids import Org, new_id, text_from_id
from bursar.core.time import Clock
from bursar.pricing.overrides import PriceOverride
from bursar.pricing.ports import StoredOverride, UnpricedModel
from bursar.storage.sql.marks import Kept, mark
from bursar.storage.sql.ports import Connection, Readers, Store, Transaction
from bursar.storage.sql.prices_unpriced import unpriced_models

OVERRIDES_MAX = 100_000
"""Overrides of one organisation, ended ones included: about 30 MB and half a second to read."""

EVERY_TIER = -1
"""What stands for "no particular service tier" in a key, where NULL would not be unique."""

_COLUMNS = "id, body, created_at, actor"
_LIST = f"SELECT {_COLUMNS} FROM price_override WHERE org = ? ORDER BY seq"
_GET = f"SELECT {_COLUMNS} FROM price_override WHERE org = ? AND id = ?"
_SAME = f"""SELECT {_COLUMNS} FROM price_override
    WHERE org = ? AND pattern = ? AND service_tier = ? AND valid_from = ?"""
_COUNT = "SELECT count(*), coalesce(max(seq), 0) FROM price_override WHERE org = ?"
_PUT = """INSERT INTO price_override
    (org, pattern, service_tier, valid_from, valid_to, id, seq, body, created_at, actor)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (org, pattern, service_tier, valid_from) DO UPDATE SET
        valid_to = excluded.valid_to, seq = excluded.seq, body = excluded.body,
        created_at = excluded.created_at, actor = excluded.actor"""
_END = "UPDATE price_override SET valid_to = ?, body = ? WHERE org = ? AND id = ?"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PriceOverride).decode


class SqlPrices:
    """`pricing.ports.PriceStore` over one database."""

    def __init__(self, store: Store, readers: Readers, clock: Clock) -> None:
        self._store = store
        self._readers = readers
        self._clock = clock

    async def list(self, org: Org) -> Sequence[StoredOverride]:
        """Return every override, ended ones too, in the order in which they were put."""
        return [
            _stored(row)
            for row in await self._readers.run_short(org, lambda one: one.execute(_LIST, (org,)).fetchall())
        ]

    async def put(self, org: Org, override: PriceOverride, *, at: int, actor: str) -> StoredOverride:
        """Store an override; one with the same pattern, tier and valid_from is replaced.

        Raises:
            Conflict: The organisation has `OVERRIDES_MAX` already.
        """
        return (await self.put_all(org, [override], at=at, actor=actor))[0]

    async def put_all(
        self, org: Org, overrides: Sequence[PriceOverride], *, at: int, actor: str
    ) -> Sequence[StoredOverride]:
        """Store many as by `put`, all in one transaction or none.

        A replaced override keeps its id, and the audit log keeps what it said.
        """

        async def work(transaction: Transaction) -> Sequence[StoredOverride]:
            unit = transaction.unit(org)
            connection = unit.connection
            count, seq = connection.execute(_COUNT, (org,)).fetchone()
            if count + len(overrides) > OVERRIDES_MAX:
                raise Conflict(f"an organisation has at most {OVERRIDES_MAX} price overrides")
            stored = []
            for number, override in enumerate(overrides, seq + 1):
                made, replaced = _put(connection, org, number, StoredOverride(new_id(), override, at, actor))
                stored.append(made)
                await unit.record(_audit("price.put", made, at, actor, before=replaced))
            mark(connection, org, Kept.PRICES)
            return stored

        return await self._store.transact(work)

    async def end(self, org: Org, override_id: bytes, *, valid_to: int, actor: str) -> StoredOverride:
        """Close an override: usage at or after `valid_to` no longer gets it.

        It never prolongs: one that ends earlier already stays as it is.

        Raises:
            NotFound: No such override in this organisation.
            InvalidInput: `valid_to` is not after its `valid_from`.
        """

        async def work(transaction: Transaction) -> StoredOverride:
            unit = transaction.unit(org)
            row = unit.connection.execute(_GET, (org, override_id)).fetchone()
            if row is None:
                raise NotFound("no such price override in this organisation", field="id")
            old = _stored(row)
            if old.override.valid_to is not None and old.override.valid_to <= valid_to:
                return old
            ended = old._replace(override=_ended(old.override, valid_to))
            body = _encode(ended.override).decode()
            unit.connection.execute(_END, (valid_to, body, org, override_id))
            await unit.record(_audit("price.end", ended, self._clock(), actor, before=old.override))
            mark(unit.connection, org, Kept.PRICES)
            return ended

        return await self._store.transact(work)

    async def unpriced(self, org: Org, *, limit: int) -> Sequence[UnpricedModel]:
        """Return the models with unpriced usage, the most requests first, at most `limit`."""
        return await self._readers.run(org, lambda connection: unpriced_models(connection, org, limit))


def _put(
    connection: Connection, org: Org, seq: int, new: StoredOverride
) -> tuple[StoredOverride, PriceOverride | None]:
    """Write one row; return it and what it replaced, whose id it keeps."""
    override = new.override
    tier = EVERY_TIER if override.service_tier is None else int(override.service_tier)
    key = (override.pattern.strip().lower(), tier, override.valid_from)
    row = connection.execute(_SAME, (org, *key)).fetchone()
    old = None if row is None else _stored(row)
    made = new if old is None else new._replace(id=old.id)
    body = _encode(override).decode()
    connection.execute(_PUT, (org, *key, override.valid_to, made.id, seq, body, made.created_at, made.actor))
    return made, old.override if old else None


def _ended(override: PriceOverride, valid_to: int) -> PriceOverride:
    if valid_to <= override.valid_from:
        raise InvalidInput(
            "valid_to must be after the override's valid_from; to change one that has not begun, "
            "put another with the same pattern, tier and valid_from",
            field="valid_to",
        )
    return msgspec.structs.replace(override, valid_to=valid_to)


def _stored(row: Sequence[object]) -> StoredOverride:
    override_id, body, created_at, actor = row
    assert isinstance(override_id, bytes)  # noqa: S101 - the column is a BLOB
    assert isinstance(created_at, int)  # noqa: S101 - the column is an INTEGER
    return StoredOverride(override_id, _decode(str(body)), created_at, str(actor))


def _audit(
    action: str, stored: StoredOverride, at: int, actor: str, *, before: PriceOverride | None
) -> AuditEntry:
    details = {"override": msgspec.to_builtins(stored.override)}
    if before is not None:
        details["before"] = msgspec.to_builtins(before)
    target = text_from_id("prc", stored.id)
    return AuditEntry(at=at, actor=actor, action=action, target=target, details=details)
