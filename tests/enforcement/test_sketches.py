"""Learned outputs: in memory at once, in the file by a job, and together with other processes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bursar.budgets.estimate import LEARNED_FROM, WEIGHT_MAX, OutputSketch
from bursar.core.errors import Unavailable
from bursar.core.ids import Org
from bursar.enforcement.sketches import Learned, Sketches, with_learned
from bursar.storage.sql.sketches import SqlSketches
from support.engines import Database, database_of

ORG = Org(1)


class File:
    """One ledger, and the sketches of as many processes as are asked for."""

    def __init__(self, place: Database | Path) -> None:
        self.engine = database_of(place).engine(clock=lambda: 1, canonicalise=lambda a, b: (a, b))

    def process(self, *, kept_max: int = 10) -> Sketches:
        return Sketches(SqlSketches(self.engine.store, self.engine.readers), kept_max=kept_max)


@pytest.fixture
async def file(database: Database) -> AsyncIterator[File]:
    opened = File(database)
    yield opened
    await opened.engine.close()


async def quantile(sketches: Sketches, agent: str = "bot", org: Org = ORG) -> int | None:
    sketch = await sketches.of(org, agent, "gpt-4o")
    return None if sketch is None else sketch.quantile()


def learn(sketches: Sketches, *outputs: int, agent: str = "bot", has_overrun: bool = False) -> None:
    for output in outputs:
        sketches.learn(ORG, agent, "gpt-4o", output, has_overrun=has_overrun)


async def test_nothing_is_said_before_enough_is_learned(file: File) -> None:
    sketches = file.process()
    assert await quantile(sketches) is None
    learn(sketches, *[100] * (LEARNED_FROM - 1))
    assert await quantile(sketches) is None
    learn(sketches, 100)
    found = await quantile(sketches)
    assert found is not None
    assert 100 <= found <= 111


async def test_a_new_agent_is_judged_by_the_model_and_a_known_one_by_itself(file: File) -> None:
    sketches = file.process()
    learn(sketches, *[1_000] * 50)
    learn(sketches, *[10] * 30, agent="brief")
    new, brief = await quantile(sketches, "new"), await quantile(sketches, "brief")
    assert new is not None
    assert brief is not None
    assert new >= 1_000
    assert brief <= 11


async def test_an_organisation_learns_nothing_from_another(file: File) -> None:
    sketches = file.process()
    learn(sketches, *[1_000] * 50)
    assert await quantile(sketches, org=Org(2)) is None


async def test_what_was_flushed_is_known_to_the_next_process(file: File) -> None:
    sketches = file.process()
    learn(sketches, *[100] * 30)
    assert await quantile(file.process()) is None
    await sketches.flush()
    assert await quantile(file.process()) == await quantile(sketches)


async def test_processes_add_to_each_other_instead_of_writing_over(file: File) -> None:
    one, other = file.process(), file.process()
    await asyncio.gather(quantile(one), quantile(other))
    learn(one, *[100] * 30)
    learn(other, *[9_000] * 30)
    await one.flush()
    await other.flush()
    sketch = await file.process().of(ORG, "bot", "gpt-4o")
    assert sketch is not None
    assert sketch.weight == 60
    assert (sketch.quantile(500_000) or 0) <= 110
    assert (sketch.quantile() or 0) >= 9_000


async def test_a_sketch_in_memory_and_the_stored_one_agree(file: File) -> None:
    sketches = file.process()
    await quantile(sketches)
    learn(sketches, *range(50, 150))
    learn(sketches, 500, 700, has_overrun=True)
    kept = await sketches.of(ORG, "bot", "gpt-4o")
    await sketches.flush()
    stored = await file.process().of(ORG, "bot", "gpt-4o")
    assert kept is not None
    assert stored is not None
    assert (stored.counts, stored.margin_ppm) == (kept.counts, kept.margin_ppm)


async def test_what_is_learned_before_a_sketch_is_first_asked_for_counts(file: File) -> None:
    first = file.process()
    learn(first, *[100] * 30)
    await first.flush()
    later = file.process()
    learn(later, *[100] * 10)
    sketch = await later.of(ORG, "bot", "gpt-4o")
    assert sketch is not None
    assert sketch.weight == 40
    await later.flush()
    assert sketch.weight == 40


async def test_a_flush_that_fails_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    """On SQLite, where another program can keep the file for itself."""
    file = File(tmp_path)
    store, sketches = file.engine.store, file.process()
    learn(sketches, *[100] * 30)
    blocker = sqlite3.connect(store.path, timeout=0, isolation_level=None)
    store._writer.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="busy"):
        await sketches.flush()
    blocker.execute("ROLLBACK")
    blocker.close()
    learn(sketches, *[100] * 5)
    await sketches.flush()
    sketch = await file.process().of(ORG, "bot", "gpt-4o")
    assert sketch is not None
    assert sketch.weight == 35
    await file.engine.close()


async def test_memory_is_bounded_and_what_was_dropped_is_read_again(file: File) -> None:
    sketches = file.process(kept_max=2)
    learn(sketches, *[100] * 30)
    await sketches.flush()
    before = await quantile(sketches)
    for number in range(5):
        await quantile(sketches, f"agent {number}")
    assert len(sketches._kept) == 2
    assert await quantile(sketches) == before


def test_counts_are_halved_when_they_grow_too_heavy() -> None:
    stored = OutputSketch({40: WEIGHT_MAX - 1}, WEIGHT_MAX - 1)
    learned = Learned(OutputSketch({10: 5}, 5), others=5)
    total = with_learned(stored, learned)
    assert total.weight < WEIGHT_MAX
    assert total.counts == {40: WEIGHT_MAX // 2, 10: 3}
