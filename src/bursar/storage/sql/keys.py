"""API keys: found by hash, changed only together with an audit entry."""

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.errors import NotFound
from bursar.core.ids import Org, text_from_id
from bursar.identity.keys import ApiKey, Scope
from bursar.storage.sql.ports import EVERY_ORG, Connection, Readers, Row, Store, Transaction

_COLUMNS = """org, api_key, id, name, prefix, scopes, project, agent, is_active, created_at, expires_at,
    revoked_at, last_used_at, auth_failures_count, last_failed_at, replaced_by, ends_at"""
_FIND = f"""SELECT {_COLUMNS},
        (SELECT o.deleted_at FROM organisation AS o WHERE o.org = api_key.org) AS org_deleted_at
    FROM api_key
    WHERE (org, api_key) = (SELECT org, api_key FROM api_key_hash WHERE hash = ?)"""
_LIST = f"SELECT {_COLUMNS} FROM api_key WHERE org = ? ORDER BY api_key"
_GET = f"SELECT {_COLUMNS} FROM api_key WHERE org = ? AND id = ?"
_LAST = "SELECT coalesce(max(api_key), 0) FROM api_key WHERE org = ?"
_INSERT = f"""INSERT INTO api_key (hash, {_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_HASH = "INSERT INTO api_key_hash (hash, org, api_key) VALUES (?, ?, ?)"
_REVOKE = "UPDATE api_key SET is_active = 0, revoked_at = ? WHERE org = ? AND id = ? AND is_active = 1"
_REPLACE = """UPDATE api_key SET is_active = ?, revoked_at = ?, replaced_by = ?, ends_at = ?
    WHERE org = ? AND id = ? AND is_active = 1 AND replaced_by IS NULL"""
_USED = """UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?)
    WHERE org = ? AND api_key = ?"""
_FAILED = """UPDATE api_key SET auth_failures_count = auth_failures_count + ?, last_failed_at = ?
    WHERE org = ? AND api_key = ?"""


class SqlKeys:
    """`identity.ports.KeyStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def find(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with that hash."""
        row = await self._readers.run_short(EVERY_ORG, lambda one: one.execute(_FIND, (key_hash,)).fetchone())
        if row is None:
            return None
        key = _key_from_row(row)
        deleted = row["org_deleted_at"]
        return key if deleted is None else msgspec.structs.replace(key, org_deleted_at=deleted)

    async def list(self, org: Org) -> list[ApiKey]:
        """Return the organisation's keys, oldest first."""
        return [
            _key_from_row(row)
            for row in await self._readers.run_short(org, lambda one: one.execute(_LIST, (org,)).fetchall())
        ]

    async def create(self, key: ApiKey, key_hash: bytes, *, actor: str) -> ApiKey:
        """Store a new key."""
        return await self._store.transact(
            lambda transaction: insert_key(transaction, key, key_hash, actor=actor)
        )

    async def revoke(self, org: Org, key_id: bytes, *, at: int, actor: str) -> ApiKey:
        """Make the key inactive; repeating it changes nothing."""

        async def work(transaction: Transaction) -> ApiKey:
            unit = transaction.unit(org)
            key = _get(unit.connection, org, key_id)
            if unit.connection.execute(_REVOKE, (at, org, key_id)).rowcount:
                await unit.record(_audit("key.revoke", key, actor, at))
            return _get(unit.connection, org, key_id)

        return await self._store.transact(work)

    async def rotate(
        self,
        org: Org,
        key_id: bytes,
        successor: ApiKey,
        key_hash: bytes,
        *,
        actor: str,
        overlap_micros: int = 0,
    ) -> ApiKey:
        """End one key, now or after an overlap, and store its successor, both or neither."""
        at = successor.created_at
        ends_at = at + overlap_micros

        async def work(transaction: Transaction) -> ApiKey:
            unit = transaction.unit(org)
            old = _get(unit.connection, org, key_id)
            state = (1, None) if overlap_micros > 0 else (0, at)
            values = (*state, successor.id, ends_at, org, key_id)
            if not unit.connection.execute(_REPLACE, values).rowcount:
                raise NotFound("that key is not active any more, or was rotated already", field="key_id")
            made = _insert(unit.connection, successor, key_hash)
            await unit.record(_audit("key.replace" if overlap_micros else "key.revoke", old, actor, at))
            await unit.record(_audit("key.create", made, actor, at))
            return made

        return await self._store.transact(work)

    async def record_use(
        self, used: dict[tuple[Org, int], int], failed: dict[tuple[Org, int], tuple[int, int]]
    ) -> None:
        """Write last uses and failed uses, gathered in memory, in one commit."""

        async def work(transaction: Transaction) -> None:
            # Without the organisations' own locks: a hundred of them would be held for figures of use.
            connection = transaction.everywhere
            connection.executemany(_USED, [(at, *key) for key, at in sorted(used.items())])
            connection.executemany(
                _FAILED, [(count, at, *key) for key, (count, at) in sorted(failed.items())]
            )

        await self._store.transact(work)


async def insert_key(transaction: Transaction, key: ApiKey, key_hash: bytes, *, actor: str) -> ApiKey:
    """Store a new key within a transaction; for this package's own use."""
    unit = transaction.unit(key.org)
    made = _insert(unit.connection, key, key_hash)
    await unit.record(_audit("key.create", made, actor, key.created_at))
    return made


def _get(connection: Connection, org: Org, key_id: bytes) -> ApiKey:
    row = connection.execute(_GET, (org, key_id)).fetchone()
    if row is None:
        raise NotFound("no such key in this organisation", field="key_id")
    return _key_from_row(row)


def _insert(connection: Connection, key: ApiKey, key_hash: bytes) -> ApiKey:
    made = msgspec.structs.replace(key, number=connection.execute(_LAST, (key.org,)).fetchone()[0] + 1)
    scopes = ",".join(sorted(made.scopes))
    connection.execute(
        _INSERT,
        (key_hash, made.org, made.number, made.id, made.name, made.prefix, scopes, made.project, made.agent,
         int(made.is_active), made.created_at, made.expires_at, made.revoked_at, made.last_used_at,
         made.auth_failures_count, made.last_failed_at, made.replaced_by, made.ends_at),
    )  # fmt: skip
    connection.execute(_INSERT_HASH, (key_hash, made.org, made.number))
    return made


def _key_from_row(row: Row) -> ApiKey:
    (
        org,
        number,
        key_id,
        name,
        prefix,
        scopes,
        project,
        agent,
        active,
        created,
        expires,
        revoked,
        used,
        fails,
        failed,
        replaced_by,
        ends_at,
    ) = tuple(row)[:17]
    return ApiKey(
        org=Org(org),
        number=number,
        id=key_id,
        name=name,
        prefix=prefix,
        scopes=frozenset(Scope(scope) for scope in scopes.split(",")),
        project=project,
        agent=agent,
        is_active=bool(active),
        created_at=created,
        expires_at=expires,
        revoked_at=revoked,
        last_used_at=used,
        auth_failures_count=fails,
        last_failed_at=failed,
        replaced_by=replaced_by,
        ends_at=ends_at,
    )


def _audit(action: str, key: ApiKey, actor: str, at: int) -> AuditEntry:
    details = {"name": key.name, "prefix": key.prefix, "scopes": sorted(key.scopes)}
    return AuditEntry(at=at, actor=actor, action=action, target=text_from_id("key", key.id), details=details)
