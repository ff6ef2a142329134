"""Batches and single events over HTTP, each beside what bounds it, in alternation.

A, B, A, B, … and the median of each: a neighbour on the same cores then slows both. Ratios
are of the two medians; the CPU per event beside them hardly feels neighbours at all.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from baseline import Replay, record, replay, replay_with_our_bindings
from bursar.core.time import system_clock
from bursar.core.usage import UsageEvent
from load import Load, send_batches, send_singles
from quiet import quietest
from results import Figure, Results, say
from server import Server, prepare, serving, serving_app
from traffic import BATCH_EVENTS, EXTRA, Call, Fleet, Traffic, event_of, item_of, steady, write_bodies

WARM_SECONDS = 1.0
MEASURED_SECONDS = 3.0
BODIES_PER_SECOND = 140
"""More than any rate seen: running out of bodies fails a run."""
BODIES = int((WARM_SECONDS + MEASURED_SECONDS) * BODIES_PER_SECOND)
RECORDED = 200
STEP_MICROS = 1_500
HALF_HOUR_MICROS = 1_800_000_000


class Kind(NamedTuple):
    """A sort of batch traffic."""

    name: str
    ordered_keys: bool = True
    extra: dict[str, object] | None = None
    target: float | None = None


ORDERED = Kind("time-ordered keys", target=0.55)
RANDOM = Kind("random keys", ordered_keys=False)
ATTRIBUTES = Kind("with attributes", extra=EXTRA)


class Rate(NamedTuple):
    """A median of several runs: events a second, CPU µs an event, latency of a request."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    generator_share: float
    neighbours: float


def batches(work: Path, results: Results, kind: Kind, *, repeats: int) -> None:
    """Measure one kind of batches on an empty file beside the bare baseline."""
    say(f"batches, {kind.name}: making bodies")
    bodies = work / "bodies"
    write_bodies(bodies, calls_of(kind), BODIES, extra=kind.extra)
    recorded = record(work / "record", list(islice(event_batches(kind), RECORDED)))

    def take() -> tuple[Load, Replay]:
        return one_load(work / "ledger", bodies), replay(work / "bare", recorded, BATCH_EVENTS)

    rounds = quietest(take, repeats)
    whole = median_of([load for load, _ in rounds], BATCH_EVENTS)
    ours = replay_with_our_bindings(work / "bare", recorded, BATCH_EVENTS)
    _report(results, kind, whole, [bare for _, bare in rounds], ours)
    shutil.rmtree(bodies)


def calls_of(kind: Kind, seed: int = 1) -> Iterator[Call]:
    """Return calls from half an hour ago on."""
    start = system_clock() - HALF_HOUR_MICROS
    return Traffic(seed, Fleet(), ordered_keys=kind.ordered_keys).calls(steady(start, STEP_MICROS))


def event_batches(kind: Kind) -> Iterator[list[UsageEvent]]:
    """Return the same traffic as lists of events."""
    calls = calls_of(kind)
    while True:
        yield [event_of(call, kind.extra) for call in islice(calls, BATCH_EVENTS)]


def one_load(data_dir: Path, bodies: Path) -> Load:
    """Start a server on an empty ledger, warm it up, measure it."""
    shutil.rmtree(data_dir, ignore_errors=True)
    key = prepare(data_dir)
    with serving(data_dir) as server:
        load = warmed_load(server, bodies, key, range(BODIES))
    shutil.rmtree(data_dir)
    return load


def warmed_load(server: Server, bodies: Path, key: str, numbers: range) -> Load:
    """Send a second's worth of bodies, then measure the rest of `numbers`."""
    warm = int(WARM_SECONDS * BODIES_PER_SECOND)
    send_batches(server, bodies, key, numbers[:warm], seconds=WARM_SECONDS)
    return send_batches(server, bodies, key, numbers[warm:], seconds=MEASURED_SECONDS)


def median_of(loads: Sequence[Load], events: int) -> Rate:
    """Return the medians of several loads of requests with `events` events each."""

    def middle(value: Callable[[Load], float]) -> float:
        return median(map(value, loads))

    return Rate(
        middle(lambda one: one.rate * events),
        middle(lambda one: one.server_cpu_s / one.requests / events * 1e6),
        middle(lambda one: one.p50_ms),
        middle(lambda one: one.p99_ms),
        middle(lambda one: one.generator_share),
        max(one.neighbours for one in loads),
    )


def _report(
    results: Results, kind: Kind, whole: Rate, bare: Sequence[Replay], with_our_bindings: Replay
) -> None:
    bare_rate = median(one.rate for one in bare)
    bare_cpu = median(one.cpu_us for one in bare)
    notes: dict[str, float | str] = {
        "events/s": whole.rate,
        "CPU µs/event": whole.cpu_us,
        "p50 ms": whole.p50_ms,
        "p99 ms": whole.p99_ms,
        "bare events/s": bare_rate,
        "bare CPU µs/event": bare_cpu,
        "ratio of CPU": bare_cpu / whole.cpu_us,
        "bare with our bindings, events/s": with_our_bindings.rate,
        "share of that": whole.rate / with_our_bindings.rate,
        "generator's cores": whole.generator_share,
        "neighbours' cores": whole.neighbours,
    }
    name = f"batches of 1,000, empty file, {kind.name}: share of bare"
    results.add(Figure(name, whole.rate / bare_rate, "× bare", kind.target, notes=notes))


def singles(work: Path, results: Results, *, repeats: int) -> None:
    """Measure requests of one event each beside a bare FastAPI route."""
    templates = write_templates(work / "singles.txt")
    data_dir = work / "ledger"
    shutil.rmtree(data_dir, ignore_errors=True)
    key = prepare(data_dir)
    takes = count()
    with serving(data_dir) as server, serving_app("bare_app:app") as floor:

        def send(to: Server, seconds: float) -> Load:
            return send_singles(to, templates, key, take=next(takes), seconds=seconds)

        def take() -> tuple[Load, Load]:
            send(server, WARM_SECONDS)
            return send(server, MEASURED_SECONDS), send(floor, MEASURED_SECONDS)

        rounds = quietest(take, repeats)
    shutil.rmtree(data_dir)
    whole, route = median_of([one for one, _ in rounds], 1), median_of([one for _, one in rounds], 1)
    notes: dict[str, float | str] = {
        "CPU µs/event": whole.cpu_us,
        "p50 ms": whole.p50_ms,
        "generator's cores": whole.generator_share,
        "neighbours' cores": whole.neighbours,
    }
    results.add(Figure("single events, 32 connections", whole.rate, "requests/s", 4_500, notes=notes))
    results.add(Figure("single events, 32 connections: 99 %", whole.p99_ms, "ms", 20, at_least=False))
    floor_notes: dict[str, float | str] = {"bare requests/s": route.rate, "bare CPU µs": route.cpu_us}
    share = whole.rate / route.rate
    results.add(Figure("single events: share of bare FastAPI", share, "× bare", 0.45, notes=floor_notes))


def write_templates(path: Path) -> Path:
    """Write single-event bodies, one a line, with `@KEY@` where the key goes."""
    calls = calls_of(ORDERED, seed=2)
    lines = [
        json.dumps({"events": [{**item_of(call), "idempotency_key": "@KEY@"}]}, separators=(",", ":"))
        for call in islice(calls, 2_000)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
