"""Measure Bursar's speed and size, and write a results file. Entry of `make bench`.

`--quick` takes fewer repeats and a smaller ledger; `--only` picks parts. Every part prints
its figures as soon as they are known, and the table comes last.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import ingest
import postgres
import postgres_ontop
import start
from filled import filled
from holds import holds
from ontop import on_top
from postgres_queries import postgres_queries
from postgres_server import databases
from queries import queries
from results import Results, machine, say
from size import size

DATA = Path(__file__).parent / "data"


class Scale(NamedTuple):
    """How much is measured."""

    repeats: int
    events: int


QUICK = Scale(repeats=2, events=1_000_000)
FULL = Scale(repeats=3, events=10_000_000)
Part = Callable[[Path, Results, Scale], None]


def _batches(kind: ingest.Kind) -> Part:
    return lambda work, results, scale: ingest.batches(work, results, kind, repeats=scale.repeats)


def _on_top(*, ordered_keys: bool) -> Part:
    def part(work: Path, results: Results, scale: Scale) -> None:
        ledger = filled(DATA, scale.events, ordered_keys=ordered_keys)
        on_top(work, results, ledger, repeats=scale.repeats)

    return part


def _size(*, ordered_keys: bool) -> Part:
    return lambda _work, results, scale: size(results, filled(DATA, scale.events, ordered_keys=ordered_keys))


def _restart(work: Path, results: Results, scale: Scale) -> None:
    ledger = filled(DATA, scale.events, ordered_keys=True)
    start.restart(work, results, ledger, repeats=scale.repeats)


def _postgres(measure: Callable[..., None]) -> Part:
    def part(work: Path, results: Results, scale: Scale) -> None:
        with databases(DATA / "postgres") as server:
            measure(work, results, server, repeats=scale.repeats)

    return part


def _postgres_queries(work: Path, results: Results, scale: Scale) -> None:
    ledger = filled(DATA, scale.events, ordered_keys=True)
    with databases(DATA / "postgres") as server:
        postgres_queries(work, results, server, ledger)


def _postgres_on_top(*, ordered_keys: bool) -> Part:
    def part(work: Path, results: Results, scale: Scale) -> None:
        with databases(DATA / "postgres") as server:
            small, large = (
                filled(DATA, events, ordered_keys=ordered_keys) for events in (QUICK.events, FULL.events)
            )
            postgres_ontop.on_top(work, results, server, (small, large), repeats=scale.repeats)

    return part


def _holds(work: Path, results: Results, scale: Scale) -> None:
    holds(work, results, repeats=scale.repeats, events=scale.events // 10)


PARTS: Mapping[str, Part] = {
    "batches": _batches(ingest.ORDERED),
    "random": _batches(ingest.RANDOM),
    "attributes": _batches(ingest.ATTRIBUTES),
    "singles": lambda work, results, scale: ingest.singles(work, results, repeats=scale.repeats),
    "holds": _holds,
    "start": lambda work, results, scale: start.start(work, results, repeats=scale.repeats),
    "install": lambda work, results, _scale: start.install(work, results),
    "queries": lambda work, results, scale: queries(
        work, results, filled(DATA, scale.events, ordered_keys=True)
    ),
    "size": _size(ordered_keys=True),
    "size-random": _size(ordered_keys=False),
    "on-top": _on_top(ordered_keys=True),
    "on-top-random": _on_top(ordered_keys=False),
    "restart": _restart,
    "postgres-batches": _postgres(postgres.batches),
    "postgres-asks": _postgres(postgres.asks),
    "postgres-queries": _postgres_queries,
    "postgres-on-top": _postgres_on_top(ordered_keys=True),
    "postgres-on-top-random": _postgres_on_top(ordered_keys=False),
    "postgres-beside": _postgres(postgres.asks_beside_batches),
}
LEFT_OUT_WHEN_QUICK = frozenset(
    {"random", "on-top-random", "size-random", "restart", "postgres-on-top", "postgres-on-top-random"}
)


def main() -> int:
    """Run the parts; 1 when there is no load generator. A missed target is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and parts, 1 million events")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts only")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing, the load generator: on Debian, apt install wrk.", file=sys.stderr)
        return 1
    chosen = options.only or [name for name in PARTS if not options.quick or name not in LEFT_OUT_WHEN_QUICK]
    results = Results("quick" if options.quick else "full")
    say(f"machine: {machine()}")
    DATA.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=DATA))
    try:
        for name in chosen:
            say(f"== {name}")
            PARTS[name](work, results, QUICK if options.quick else FULL)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{results.table()}\n")
    print(f"written to {results.write()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
