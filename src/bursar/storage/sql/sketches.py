"""Learned outputs in SQLite: one small row for each agent and model, and one for the model alone."""

from collections.abc import Mapping

import msgspec

from bursar.budgets.estimate import OutputSketch, sketch_from
from bursar.enforcement.sketches import Learned, SketchKey, with_learned
from bursar.storage.sql.ports import Connection, Readers, Store, Transaction

_GET = "SELECT counts, margin_ppm FROM output_sketch WHERE org = ? AND agent = ? AND model = ?"
_PUT = """INSERT INTO output_sketch (org, agent, model, counts, margin_ppm) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (org, agent, model)
    DO UPDATE SET counts = excluded.counts, margin_ppm = excluded.margin_ppm"""

_pack = msgspec.msgpack.Encoder().encode
_counts = msgspec.msgpack.Decoder(dict[int, int]).decode


class SqlSketches:
    """`enforcement.sketches.SketchStore` over the one file."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def read(self, key: SketchKey) -> OutputSketch | None:
        """Return what stands: one seek, at once."""
        return await self._readers.run_short(key.org, lambda connection: _read(connection, key))

    async def add(self, learned: Mapping[SketchKey, Learned]) -> None:
        """Add to what stands, in one transaction."""

        async def work(transaction: Transaction) -> None:
            connection = transaction.everywhere
            for key, new in learned.items():
                sketch = with_learned(_read(connection, key) or OutputSketch(), new)
                connection.execute(_PUT, (*key, _pack(sketch.counts), sketch.margin_ppm))

        await self._store.transact(work)


def _read(connection: Connection, key: SketchKey) -> OutputSketch | None:
    row = connection.execute(_GET, key).fetchone()
    return None if row is None else sketch_from(_counts(row[0]), row[1])
