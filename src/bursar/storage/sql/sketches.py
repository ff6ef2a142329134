"""Learned outputs: one small row for each agent and model, and one for the model alone."""

from collections.abc import Mapping, Sequence

import msgspec

from bursar.budgets.estimate import OutputSketch, sketch_from
from bursar.enforcement.sketches import Learned, SketchKey, with_learned
from bursar.storage.sql.ports import Connection, Readers, Store, Transaction

_GET = "SELECT counts, margin_ppm FROM output_sketch WHERE org = ? AND agent = ? AND model = ?"
_THIS = "(org = ? AND agent = ? AND model = ?)"
_PUT = """INSERT INTO output_sketch (org, agent, model, counts, margin_ppm) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (org, agent, model)
    DO UPDATE SET counts = excluded.counts, margin_ppm = excluded.margin_ppm"""
_TOGETHER_MAX = 100
"""Sketches that are read in one statement."""

_pack = msgspec.msgpack.Encoder().encode
_counts = msgspec.msgpack.Decoder(dict[int, int]).decode


class SqlSketches:
    """`enforcement.sketches.SketchStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers

    async def read(self, key: SketchKey) -> OutputSketch | None:
        """Return what stands: one seek, at once."""
        row = await self._readers.run_short(key.org, lambda one: one.execute(_GET, key).fetchone())
        return None if row is None else sketch_from(_counts(row[0]), row[1])

    async def add(self, learned: Mapping[SketchKey, Learned]) -> dict[SketchKey, OutputSketch]:
        """Add to what stands, in one transaction; return what stands now."""

        async def work(transaction: Transaction) -> dict[SketchKey, OutputSketch]:
            # Without the organisations' own locks: nobody else writes these, and decisions need not wait.
            connection = transaction.everywhere
            made: dict[SketchKey, OutputSketch] = {}
            keys = sorted(learned)
            for first in range(0, len(keys), _TOGETHER_MAX):
                some = keys[first : first + _TOGETHER_MAX]
                known = _read(connection, some)
                for key in some:
                    made[key] = with_learned(known.get(key) or OutputSketch(), learned[key])
            rows = [(*key, _pack(sketch.counts), sketch.margin_ppm) for key, sketch in made.items()]
            connection.executemany(_PUT, rows)
            return made

        return await self._store.transact(work)


def _read(connection: Connection, keys: Sequence[SketchKey]) -> dict[SketchKey, OutputSketch]:
    wanted = " OR ".join([_THIS] * len(keys))
    statement = f"SELECT org, agent, model, counts, margin_ppm FROM output_sketch WHERE {wanted}"
    found = connection.execute(statement, [value for key in keys for value in key])
    return {
        SketchKey(org, agent, model): sketch_from(_counts(counts), margin)
        for org, agent, model, counts, margin in found
    }
