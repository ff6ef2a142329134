"""Importers' cursors: one small document per organisation and source."""

from collections.abc import Callable

from bursar.core.ids import Org
from bursar.storage.sql.ports import Readers, Store, Transaction

_GET = "SELECT body FROM import_cursor WHERE org = ? AND source = ? AND name = ''"
_PUT = """INSERT INTO import_cursor (org, source, name, body, updated_at) VALUES (?, ?, '', ?, ?)
    ON CONFLICT (org, source, name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at"""


class SqlCursors:
    """`capture.ports.CursorStore` over one database. `clock` gives microseconds UTC."""

    def __init__(self, store: Store, readers: Readers, clock: Callable[[], int]) -> None:
        self._store = store
        self._readers = readers
        self._clock = clock

    async def get_cursor(self, org: Org, source: str) -> bytes | None:
        """Return what was put last, None when nothing was."""
        row = await self._readers.run_short(org, lambda one: one.execute(_GET, (org, source)).fetchone())
        return None if row is None else row[0].encode()

    async def put_cursor(self, org: Org, source: str, cursor: bytes) -> None:
        """Keep `cursor`, UTF-8 text, in place of what was there."""

        async def work(transaction: Transaction) -> None:
            transaction.unit(org).connection.execute(_PUT, (org, source, cursor.decode(), self._clock()))

        await self._store.transact(work)
