"""What is learned of real outputs: one sketch for each agent and model, and one for the model alone.

    settled calls  →  learn  →  memory  →  flush (a job)  →  `output_sketch`
    an estimate    →  of     →  memory, else storage

Learning is a few additions in memory, after the commit it learns from; a process that dies
forgets some seconds of it, which costs nothing but a wider estimate. Bounded: what was not used
for longest is dropped and read again when it is needed. Several processes may learn at
once: each adds what is new to what stands, and goes on from there. Not here: the sketch itself
(`budgets.estimate`).
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from bursar.budgets.estimate import LEARNED_FROM, WEIGHT_MAX, OutputSketch, merged
from bursar.core.ids import Org

KEPT_MAX = 8_192
"""Sketches in memory, some hundred bytes to 5 KiB each."""

UNWRITTEN_MAX = 8_192
"""Sketches with something new between two flushes; beyond, what is new of others is not learned."""

ANY_AGENT = ""
"""The agent under which a model's own sketch stands."""


class SketchKey(NamedTuple):
    """Whose outputs: `agent` is empty for all of a model's."""

    org: Org
    agent: str
    model: str


class Learned(msgspec.Struct):
    """What one process learned since it last wrote: outputs, and how many passed their hold."""

    sketch: OutputSketch
    overruns: int = 0
    others: int = 0


class SketchStore(Protocol):
    """Where sketches are kept."""

    async def read(self, key: SketchKey) -> OutputSketch | None:
        """Return what stands, None where nothing was learned."""
        ...

    async def add(self, learned: Mapping[SketchKey, Learned]) -> Mapping[SketchKey, OutputSketch]:
        """Add to what stands (`with_learned`), all in one transaction, and return what stands now."""
        ...


class Sketches:
    """The sketches of one process, at most `kept_max` of them in memory."""

    def __init__(self, store: SketchStore, *, kept_max: int = KEPT_MAX) -> None:
        self._store = store
        self._kept_max = kept_max
        self._kept: OrderedDict[SketchKey, OutputSketch] = OrderedDict()
        self._new: dict[SketchKey, Learned] = {}

    async def of(self, org: Org, agent: str, model: str) -> OutputSketch | None:
        """Return what to estimate a call by: its agent's outputs of the model, while few all of the model's.

        None while neither has enough.
        """
        for name in (agent, ANY_AGENT):
            key = SketchKey(org, name, model)
            sketch = self._kept.get(key)
            if sketch is None:
                sketch = await self._load(key)
            else:
                self._kept.move_to_end(key)
            if sketch.weight >= LEARNED_FROM:
                return sketch
        return None

    def learn(self, org: Org, agent: str, model: str, output_tokens: int, *, has_overrun: bool) -> None:
        """Learn from one call; `has_overrun` says that it passed what was held for it."""
        for name in (agent, ANY_AGENT):
            self._learn(SketchKey(org, name, model), output_tokens, has_overrun=has_overrun)

    async def flush(self) -> None:
        """Write what is new; what cannot be written now is tried again the next time."""
        if not self._new:
            return
        new, self._new = self._new, {}
        try:
            written = await self._store.add(new)
        except BaseException:
            for key, learned in new.items():
                later = self._new.get(key)
                self._new[key] = learned if later is None else _joined(learned, later)
            raise
        # What stands holds what other processes learned, too.
        for key, sketch in written.items():
            if key in self._kept:
                self._kept[key] = self._with_new(key, sketch)

    def _learn(self, key: SketchKey, output_tokens: int, *, has_overrun: bool) -> None:
        kept = self._kept.get(key)
        if kept is not None:
            kept.add(output_tokens, has_overrun=has_overrun)
        new = self._new.get(key)
        if new is None:
            if len(self._new) >= UNWRITTEN_MAX:
                return
            new = self._new[key] = Learned(OutputSketch())
        new.sketch.add(output_tokens)
        new.overruns += has_overrun
        new.others += not has_overrun

    async def _load(self, key: SketchKey) -> OutputSketch:
        stored = await self._store.read(key) or OutputSketch()
        kept = self._kept[key] = self._with_new(key, stored)
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return kept

    def _with_new(self, key: SketchKey, stored: OutputSketch) -> OutputSketch:
        learned = self._new.get(key)
        return stored if learned is None else with_learned(stored, learned)


def with_learned(stored: OutputSketch, learned: Learned) -> OutputSketch:
    """Return a sketch with what a process learned added; the order of several does not matter for counts."""
    total = merged([stored, learned.sketch])
    total.margin_ppm = stored.margin_ppm
    while total.weight >= WEIGHT_MAX:
        counts = {bucket: (count + 1) >> 1 for bucket, count in total.counts.items()}
        total = OutputSketch(counts, sum(counts.values()), total.margin_ppm)
    total.teach_margin(learned.overruns, learned.others)
    return total


def _joined(one: Learned, other: Learned) -> Learned:
    return Learned(
        merged([one.sketch, other.sketch]), one.overruns + other.overruns, one.others + other.others
    )
