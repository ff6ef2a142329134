"""Budgets' speed: asking and settling over HTTP, the storage part alone, and what ingest pays.

Every call is matched by three hard budgets, of the organisation, its project and its agent. A pair is
one authorise and one settle, two requests; the settle records the event as ingest would.
"""

import shutil
from itertools import count
from pathlib import Path
from statistics import median

import holds_storage
from bursar.core.time import MICROS_PER_DAY, system_clock
from holds_storage import AGENTS, PROJECTS, TOGETHER, Bench, Run, prepare_budgets
from ingest import BODIES, MEASURED_SECONDS, ORDERED, WARM_SECONDS, calls_of, median_of, warmed_load
from load import Load, run_wrk
from quiet import quietest
from results import Figure, Results, say
from server import Server, prepare, serving
from traffic import BATCH_EVENTS, Fleet, Traffic, event_of, steady, write_bodies

SCRIPT = Path(__file__).with_suffix(".lua")
WARM_HOLDS_SECONDS = 5.0
"""On a fresh file the write-ahead log grows first, which makes every sync dearer; a running server's log
has its size and is written over."""


def holds(work: Path, results: Results, *, repeats: int, events: int) -> None:
    """Measure everything about holds; `events` are settled in the full window."""
    over_http(work, results, repeats=repeats)
    storage(work, results, repeats=repeats)
    full_window(work, results, repeats=repeats, events=events)
    ingest_with_budgets(work, results, repeats=repeats)


def over_http(work: Path, results: Results, *, repeats: int) -> None:
    """Measure pairs at 64 connections, and how long requests take at 32."""
    data_dir = work / "ledger"
    shutil.rmtree(data_dir, ignore_errors=True)
    key = prepare(data_dir)
    prepare_budgets(data_dir)
    takes = count()
    with serving(data_dir) as server:

        def send(connections: int, seconds: float) -> Load:
            return _send(
                server, work / "holds.lua", key, take=next(takes), seconds=seconds, connections=connections
            )

        send(64, WARM_HOLDS_SECONDS)

        def take() -> tuple[Load, Load]:
            send(64, WARM_SECONDS)
            return send(64, MEASURED_SECONDS), send(32, MEASURED_SECONDS)

        rounds = quietest(take, repeats)
    shutil.rmtree(data_dir)
    many, fewer = median_of([one for one, _ in rounds], 1), median_of([one for _, one in rounds], 1)
    notes: dict[str, float | str] = {
        "requests/s": many.rate,
        "CPU µs/pair": many.cpu_us * 2,
        "p50 ms": many.p50_ms,
        "p99 ms": many.p99_ms,
        "generator's cores": many.generator_share,
        "neighbours' cores": many.neighbours,
        "floor": 1_500,
        "stretch": 3_300,
    }
    pairs = "authorise and settle, three budgets each"
    results.add(Figure(f"{pairs}, 64 connections", many.rate / 2, "pairs/s", 2_500, notes=notes))
    at_32: dict[str, float | str] = {
        "pairs/s": fewer.rate / 2,
        "p50 ms": fewer.p50_ms,
        "generator's cores": fewer.generator_share,
        "neighbours' cores": fewer.neighbours,
    }
    results.add(Figure(f"{pairs}, 32 connections: 99 %", fewer.p99_ms, "ms", 25, at_least=False, notes=at_32))


def storage(work: Path, results: Results, *, repeats: int) -> None:
    """Measure 64 authorisations a commit, full sync, beside their bare statements."""
    recorded = holds_storage.record(work / "record")

    def take() -> tuple[Run, Run]:
        bench = Bench(work / "desk")
        ours = bench.ask(holds_storage.COMMITS)
        bench.close()
        return ours, holds_storage.replay(work / "bare", recorded)

    rounds = quietest(take, repeats)
    ours, bare = [one for one, _ in rounds], [one for _, one in rounds]
    notes: dict[str, float | str] = {
        "slowest tenth": median(one.slow_rate for one in ours),
        "CPU µs": median(one.cpu_us for one in ours),
        "neighbours' cores": max(one.neighbours for one in ours),
    }
    rate, bare_rate = median(one.rate for one in ours), median(one.rate for one in bare)
    name = f"storage alone: authorisations, {TOGETHER} a commit, full sync, three budgets each"
    results.add(Figure(name, rate, "1/s", 20_000, notes=notes))
    bare_notes: dict[str, float | str] = {
        "bare 1/s": bare_rate,
        "bare CPU µs": median(one.cpu_us for one in bare),
    }
    share = rate / bare_rate
    results.add(Figure("storage alone: share of its bare statements", share, "× bare", notes=bare_notes))


def full_window(work: Path, results: Results, *, repeats: int, events: int) -> None:
    """Measure authorisations on budgets whose windows hold many settled events, and on empty ones."""
    say(f"a window with {events:,} settled events: filling it")
    full, empty = Bench(work / "full"), Bench(work / "empty")
    step = MICROS_PER_DAY // events
    calls = Traffic(7, Fleet(AGENTS, PROJECTS), ordered_keys=True).calls(
        steady(system_clock() - MICROS_PER_DAY, step)
    )
    full.settle_events((event_of(call) for call in calls), events)
    rounds = quietest(lambda: (full.ask(holds_storage.COMMITS), empty.ask(holds_storage.COMMITS)), repeats)
    full.close()
    empty.close()
    rate, other = median(one.rate for one, _ in rounds), median(one.rate for _, one in rounds)
    notes: dict[str, float | str] = {
        "full 1/s": rate,
        "empty 1/s": other,
        "full CPU µs": median(one.cpu_us for one, _ in rounds),
        "empty CPU µs": median(one.cpu_us for _, one in rounds),
        "neighbours' cores": max(run.neighbours for pair in rounds for run in pair),
    }
    name = f"authorisations on budgets with {events:,} settled events: share of the empty ones' rate"
    results.add(Figure(name, rate / other, "× empty", 0.9, notes=notes))


def ingest_with_budgets(work: Path, results: Results, *, repeats: int) -> None:
    """Measure batches whose events are each counted by three budgets, and by none."""
    bodies = work / "bodies"
    write_bodies(bodies, calls_of(ORDERED), BODIES)

    def load(*, has_budgets: bool) -> Load:
        data_dir = work / "ledger"
        shutil.rmtree(data_dir, ignore_errors=True)
        key = prepare(data_dir)
        if has_budgets:
            prepare_budgets(data_dir)
        with serving(data_dir) as server:
            one = warmed_load(server, bodies, key, range(BODIES))
        shutil.rmtree(data_dir)
        return one

    rounds = quietest(lambda: (load(has_budgets=True), load(has_budgets=False)), repeats)
    shutil.rmtree(bodies)
    counted = median_of([one for one, _ in rounds], BATCH_EVENTS)
    plain = median_of([one for _, one in rounds], BATCH_EVENTS)
    notes: dict[str, float | str] = {
        "events/s": counted.rate,
        "CPU µs/event": counted.cpu_us,
        "without budgets, events/s": plain.rate,
        "without, CPU µs/event": plain.cpu_us,
        "neighbours' cores": max(counted.neighbours, plain.neighbours),
    }
    name = "batches of 1,000, each event in three budgets: share of the rate without budgets"
    results.add(Figure(name, counted.rate / plain.rate, "× none", notes=notes))


def _send(server: Server, path: Path, key: str, *, take: int, seconds: float, connections: int) -> Load:
    """Ask and settle with keys of this call's own; any refusal fails the run."""
    given = {"@KEY@": key, "@PREFIX@": f"take-{take}", "@AGENTS@": str(AGENTS), "@PROJECTS@": str(PROJECTS)}
    script = SCRIPT.read_text()
    for mark, text in given.items():
        script = script.replace(mark, text)
    return run_wrk(server, script, path, seconds=seconds, connections=connections)
