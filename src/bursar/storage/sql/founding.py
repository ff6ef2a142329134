"""The first organisation of a database with its first key: made once, by one of many processes."""

import msgspec

from bursar.directory.organisations import Organisation
from bursar.identity.keys import ApiKey
from bursar.storage.sql.keys import insert_key
from bursar.storage.sql.organisations import insert_organisation
from bursar.storage.sql.ports import Store, Transaction

_ANY = "SELECT 1 FROM organisation LIMIT 1"


class SqlFounding:
    """Begins an empty database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def found(self, organisation: Organisation, key: ApiKey, key_hash: bytes, *, actor: str) -> bool:
        """Store both, or neither and return false when there is an organisation, a deleted one too."""

        async def work(transaction: Transaction) -> bool:
            if transaction.everywhere.execute(_ANY).fetchone() is not None:
                return False
            made = await insert_organisation(transaction, organisation, actor=actor)
            await insert_key(transaction, msgspec.structs.replace(key, org=made.org), key_hash, actor=actor)
            return True

        return await self._store.transact(work)
