"""What an event costs on PostgreSQL on top of ten times as many: batches of the largest organisation.

Two filled ledgers stand in two databases of one server and take the same batches in turns; each round
has bodies of its own. The databases are copies, so that the kept ones stay as they were moved.
"""

import shutil
from itertools import count
from pathlib import Path

from filled import Filled
from ingest import BODIES, ORDERED, RANDOM, median_of, warmed_load
from load import Load
from ontop import ROUNDS_MAX, calls_on_top
from postgres_queries import moved
from postgres_server import Databases
from quiet import quietest
from results import Figure, Results
from server import serving
from traffic import BATCH_EVENTS, write_bodies


def on_top(
    work: Path, results: Results, databases: Databases, ledgers: tuple[Filled, Filled], *, repeats: int
) -> None:
    """Measure batches on top of the smaller and of the larger ledger."""
    small, large = ledgers
    kind, target = (ORDERED, 1.3) if large.ordered_keys else (RANDOM, 2.0)
    kept = [moved(work, databases, ledger) for ledger in ledgers]
    numbers = count()
    with (
        databases.copy(kept[0]) as small_one,
        databases.copy(kept[1]) as large_one,
        serving(work / "small", database=small_one) as small_server,
        serving(work / "large", database=large_one) as large_server,
    ):

        def take() -> tuple[Load, Load]:
            bodies = work / "bodies"
            write_bodies(bodies, calls_on_top(kind, next(numbers)), BODIES)
            loads = (
                warmed_load(small_server, bodies, small.key, range(BODIES)),
                warmed_load(large_server, bodies, large.key, range(BODIES)),
            )
            shutil.rmtree(bodies)
            return loads

        rounds = quietest(take, min(repeats, ROUNDS_MAX), tries=ROUNDS_MAX)
    few = median_of([one for one, _ in rounds], BATCH_EVENTS)
    many = median_of([one for _, one in rounds], BATCH_EVENTS)
    notes: dict[str, float | str] = {
        "events/s": many.rate,
        "p99 ms": many.p99_ms,
        f"on {small.events:,} events/s": few.rate,
    }
    name = f"PostgreSQL: cost of an event on top of {large.events / 1e6:.0f} million, {kind.name}"
    unit = f"× that on {small.events / 1e6:.0f} million"
    results.add(Figure(name, few.rate / many.rate, unit, target, at_least=False, notes=notes))
