"""Batches on top of a filled ledger, beside the same batches on an empty one."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from bursar.core.time import MICROS_PER_MINUTE, system_clock
from bursar.storage.sqlite.connection import CACHE_KIB
from filled import Filled, copied
from ingest import (
    BODIES,
    ORDERED,
    RANDOM,
    STEP_MICROS,
    Kind,
    median_of,
    one_load,
    warmed_load,
)
from load import Load
from quiet import quietest
from results import Figure, Results, say
from server import serving
from traffic import BATCH_EVENTS, Call, Fleet, Traffic, steady, write_bodies

ROUNDS_MAX = 4
"""Rounds on one copy of the file: each adds some 3 % to a ledger of ten million."""


def on_top(work: Path, results: Results, original: Filled, *, repeats: int) -> None:
    """Measure batches of the largest organisation, each round with bodies of its own."""
    kind, target = (ORDERED, 0.9) if original.ordered_keys else (RANDOM, 0.5)
    say(f"batches on top of {original.events:,} events, {kind.name}: copying the file")
    ledger = copied(original, work / "filled")
    numbers = count()
    with serving(Path(ledger.folder)) as server:

        def take() -> tuple[Load, Load]:
            bodies = work / "bodies"
            write_bodies(bodies, calls_on_top(kind, next(numbers)), BODIES)
            full = warmed_load(server, bodies, ledger.key, range(BODIES))
            empty = one_load(work / "ledger", bodies)
            shutil.rmtree(bodies)
            return full, empty

        rounds = quietest(take, min(repeats, ROUNDS_MAX), tries=ROUNDS_MAX)
    shutil.rmtree(ledger.folder)
    full = median_of([one for one, _ in rounds], BATCH_EVENTS)
    empty = median_of([one for _, one in rounds], BATCH_EVENTS)
    notes: dict[str, float | str] = {
        "events/s": full.rate,
        "CPU µs/event": full.cpu_us,
        "p50 ms": full.p50_ms,
        "p99 ms": full.p99_ms,
        "empty events/s": empty.rate,
        "empty CPU µs/event": empty.cpu_us,
        "cache MiB": CACHE_KIB / 1024,
        "neighbours' cores": max(full.neighbours, empty.neighbours),
    }
    name = (
        f"batches on top of {original.events / 1e6:.0f} million, {kind.name}: share of the empty file's rate"
    )
    results.add(Figure(name, full.rate / empty.rate, "× empty", target, notes=notes))


def calls_on_top(kind: Kind, number: int) -> Iterator[Call]:
    """Return the calls of a round, which come after those of the round before."""
    events = BODIES * BATCH_EVENTS
    start = system_clock() - (ROUNDS_MAX - number) * events * STEP_MICROS - MICROS_PER_MINUTE
    return Traffic(100 + number, Fleet(), ordered_keys=kind.ordered_keys).calls(steady(start, STEP_MICROS))
