"""The secrets that tokens are signed with: `identity.ports.SigningKeyStore`."""

from bursar.identity.tokens import SigningKey
from bursar.storage.sql.ports import EVERY_ORG, Readers, Store, Transaction

_ALL = "SELECT kid, secret, created_at, retired_at FROM signing_key ORDER BY created_at, kid"
_INSERT = "INSERT INTO signing_key (kid, secret, created_at, retired_at) VALUES (?, ?, ?, ?)"
_RETIRE = "UPDATE signing_key SET retired_at = min(coalesce(retired_at, ?1), ?1) WHERE kid <> ?2"


class SqlSigningKeys:
    """`identity.ports.SigningKeyStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def all(self) -> list[SigningKey]:
        """Return the keys, oldest first."""
        return [
            SigningKey(kid=kid, secret=secret, created_at=created, retired_at=retired)
            for kid, secret, created, retired in await self._readers.run_short(
                EVERY_ORG, lambda one: one.execute(_ALL).fetchall()
            )
        ]

    async def add(self, key: SigningKey, *, retire_others_at: int | None) -> None:
        """Store a key; with a time, every other one ends then at the latest."""

        async def work(transaction: Transaction) -> None:
            connection = transaction.everywhere
            connection.execute(_INSERT, (key.kid, key.secret, key.created_at, key.retired_at))
            if retire_others_at is not None:
                connection.execute(_RETIRE, (retire_others_at, key.kid))

        await self._store.transact(work)
