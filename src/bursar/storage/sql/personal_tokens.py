"""Personal tokens: `identity.ports.PersonalTokenStore`."""

from bursar.core.audit import AuditEntry
from bursar.core.errors import NotFound
from bursar.core.ids import Org, text_from_id
from bursar.identity.personal_tokens import PersonalToken
from bursar.identity.roles import Role
from bursar.identity.sessions import Standing
from bursar.storage.sql.ports import EVERY_ORG, Readers, Row, Store, Transaction

_COLUMNS = "id, user, name, prefix, created_at, expires_at, revoked_at, last_used_at"
_INSERT = f"INSERT INTO personal_token (hash, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LIST = f"SELECT {_COLUMNS} FROM personal_token WHERE user = ? ORDER BY id"
_GET = f"SELECT {_COLUMNS} FROM personal_token WHERE user = ? AND id = ?"
_REVOKE = "UPDATE personal_token SET revoked_at = ? WHERE user = ? AND id = ? AND revoked_at IS NULL"
_USED = "UPDATE personal_token SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE hash = ?"
_ORGS = "SELECT org FROM membership WHERE user = ? ORDER BY org"
_STANDINGS = """SELECT t.user, m.org, o.id, m.role, o.deleted_at
    FROM personal_token AS t
    JOIN user_account AS u ON u.id = t.user
    JOIN membership AS m ON m.user = t.user
    JOIN organisation AS o ON o.org = m.org
    WHERE t.hash = ?1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?2)
        AND u.disabled_at IS NULL AND u.verified_at IS NOT NULL
    ORDER BY m.created_at, m.org"""


class SqlPersonalTokens:
    """`identity.ports.PersonalTokenStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def create(self, token: PersonalToken, token_hash: bytes, *, actor: str) -> None:
        """Store a new token."""

        async def work(transaction: Transaction) -> None:
            transaction.everywhere.execute(
                _INSERT,
                (token_hash, token.id, token.user, token.name, token.prefix, token.created_at,
                 token.expires_at, token.revoked_at, token.last_used_at),
            )  # fmt: skip
            await _record(transaction, token, "token.create", at=token.created_at, actor=actor)

        await self._store.transact(work)

    async def revoke(self, user_id: bytes, token_id: bytes, *, at: int, actor: str) -> None:
        """End a token."""

        async def work(transaction: Transaction) -> None:
            connection = transaction.everywhere
            row = connection.execute(_GET, (user_id, token_id)).fetchone()
            if row is None:
                raise NotFound("you have no such token", field="token_id")
            if connection.execute(_REVOKE, (at, user_id, token_id)).rowcount:
                await _record(transaction, _token_from_row(row), "token.revoke", at=at, actor=actor)

        await self._store.transact(work)

    async def standings(self, token_hash: bytes, now: int) -> list[Standing]:
        """Return what the token's user is in each organisation."""
        return [
            Standing(user=user, org=Org(org), org_id=org_id, role=Role(role), org_deleted_at=deleted)
            for user, org, org_id, role, deleted in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_STANDINGS, (token_hash, now)).fetchall()
            )
        ]

    async def record_use(self, used: dict[bytes, int]) -> None:
        """Write when tokens were last used."""

        async def work(transaction: Transaction) -> None:
            transaction.everywhere.executemany(_USED, [(at, token) for token, at in sorted(used.items())])

        await self._store.transact(work)

    async def list(self, user_id: bytes) -> list[PersonalToken]:
        """Return the user's tokens, oldest first."""
        return [
            _token_from_row(row)
            for row in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_LIST, (user_id,)).fetchall()
            )
        ]


async def _record(
    transaction: Transaction, token: PersonalToken, action: str, *, at: int, actor: str
) -> None:
    """Write the entry in each organisation of the token's user: it opens all of them."""
    target = text_from_id("tok", token.id)
    details = {"name": token.name, "prefix": token.prefix}
    entry = AuditEntry(at=at, actor=actor, action=action, target=target, details=details)
    for (org,) in transaction.everywhere.execute(_ORGS, (token.user,)).fetchall():
        await transaction.unit(Org(org)).record(entry)


def _token_from_row(row: Row) -> PersonalToken:
    token_id, user, name, prefix, created, expires, revoked, used = row
    return PersonalToken(
        id=token_id,
        user=user,
        name=name,
        prefix=prefix,
        created_at=created,
        expires_at=expires,
        revoked_at=revoked,
        last_used_at=used,
    )
