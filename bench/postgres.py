"""The server profile: batches and holds on PostgreSQL, one process and several.

Ratios are of medians taken in alternation, as everywhere here. The server, the database, the load
generator and whatever else runs share this machine's cores.
"""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from statistics import median

from bursar.budgets.budget import Budget, Scope
from bursar.core.ids import new_id
from bursar.core.periods import Period
from bursar.enforcement import changes
from bursar.enforcement.changes import Change
from bursar.settings import Settings
from bursar.wiring import Treasury
from holds_storage import LIMIT_NUSD
from ingest import (
    BODIES,
    MEASURED_SECONDS,
    ORDERED,
    WARM_SECONDS,
    calls_of,
    event_batches,
    median_of,
    warmed_load,
)
from load import Load, run_wrk, send_batches
from postgres_baseline import BareRun, recorded, replay
from postgres_server import Databases
from quiet import quietest
from results import Figure, Results, say
from server import Server, prepare, serving
from traffic import BATCH_EVENTS, write_bodies

CONNECTIONS = 8
WARM_BATCHES = 40
BARE_BATCHES = 200
PROCESSES = 4
BUDGETS = 20
ASKS = Path(__file__).with_name("asks.lua")
ASKING_CONNECTIONS = 16
"""Of each process's load generator."""


def batches(work: Path, results: Results, databases: Databases, *, repeats: int) -> None:
    """Measure batches over HTTP beside the bare baseline, on empty databases of one server."""
    bodies = work / "bodies"
    say("PostgreSQL, batches: making bodies")
    write_bodies(bodies, calls_of(ORDERED), BODIES)
    kept = recorded(work / "record", list(islice(event_batches(ORDERED), BARE_BATCHES + WARM_BATCHES)))

    def take() -> tuple[Load, BareRun, BareRun]:
        with databases.fresh() as address:
            load = _load(work / "server", address, bodies)
        with databases.fresh() as address:
            plain = replay(address, kept, CONNECTIONS, warm=WARM_BATCHES)
        with databases.fresh() as address:
            return load, plain, replay(address, kept, CONNECTIONS, warm=WARM_BATCHES, by_database=True)

    rounds = quietest(take, repeats)
    shutil.rmtree(bodies)
    whole = median_of([one for one, _, _ in rounds], BATCH_EVENTS)
    plain = median(one.rate for _, one, _ in rounds)
    bare = median(one.rate for _, _, one in rounds)
    notes: dict[str, float | str] = {
        "events/s": whole.rate,
        "CPU µs/event of the server": whole.cpu_us,
        "p50 ms": whole.p50_ms,
        "p99 ms": whole.p99_ms,
        "bare events/s": bare,
        "bare CPU µs/event of its client": median(one.client_cpu_us for _, _, one in rounds),
        "events/s with sums worked out beforehand": plain,
        "share of that": whole.rate / plain,
        "connections": CONNECTIONS,
    }
    name = "PostgreSQL: batches of 1,000, empty database, time-ordered keys: share of bare"
    results.add(Figure(name, whole.rate / bare, "× bare", 0.6, notes=notes))


def _load(folder: Path, address: str, bodies: Path) -> Load:
    key = prepare(folder, database=address)
    with serving(folder, database=address) as server:
        return warmed_load(server, bodies, key, range(BODIES))


def asks(work: Path, results: Results, databases: Databases, *, repeats: int) -> None:
    """Measure authorisations by several processes: on one hot budget, and on many of one organisation."""
    for budgets in (1, BUDGETS):
        with databases.fresh() as address:
            loads = _asked(work, address, budgets, repeats)
            found = databases.deadlocks(address)
        _report_asks(results, loads, budgets, found)


def _report_asks(results: Results, loads: Sequence[tuple[Load, ...]], budgets: int, deadlocks: int) -> None:
    rate = median(sum(one.rate for one in round_) for round_ in loads)
    notes: dict[str, float | str] = {
        "p50 ms": median(one.p50_ms for round_ in loads for one in round_),
        "p99 ms": median(max(one.p99_ms for one in round_) for round_ in loads),
        "CPU µs/question of the servers": median(
            sum(one.server_cpu_s for one in round_) / sum(one.requests for one in round_) * 1e6
            for round_ in loads
        ),
        "connections": PROCESSES * ASKING_CONNECTIONS,
        "deadlocks": deadlocks,
    }
    where = "one hot budget" if budgets == 1 else f"{budgets} budgets of one organisation"
    name = f"PostgreSQL: authorisations, {PROCESSES} processes, {where}"
    results.add(Figure(name, rate, "1/s", 1_500 if budgets == 1 else None, notes=notes))
    results.add(Figure(f"{name}: deadlocks", deadlocks, "", 0, at_least=False))


def _asked(work: Path, address: str, budgets: int, repeats: int) -> list[tuple[Load, ...]]:
    takes = count()
    with _processes(work / "asks", address, PROCESSES, budgets) as (servers, key):

        def ask(seconds: float) -> tuple[Load, ...]:
            return _ask_all(work, servers, key, take=next(takes), budgets=budgets, seconds=seconds)

        ask(WARM_SECONDS * 3)
        return quietest(lambda: ask(MEASURED_SECONDS), repeats)


def _ask_all(
    work: Path, servers: Sequence[Server], key: str, *, take: int, budgets: int, seconds: float
) -> tuple[Load, ...]:
    """Ask every process at the same time."""

    def one(place: int) -> Load:
        given = {"@KEY@": key, "@PREFIX@": f"take-{take}-{place}", "@BUDGETS@": str(budgets)}
        script = ASKS.read_text()
        for mark, text in given.items():
            script = script.replace(mark, text)
        path = work / f"asks-{place}.lua"
        return run_wrk(servers[place], script, path, seconds=seconds, connections=ASKING_CONNECTIONS)

    with ThreadPoolExecutor(len(servers)) as pool:
        return tuple(pool.map(one, range(len(servers))))


@contextmanager
def _processes(
    folder: Path, address: str, processes: int, budgets: int
) -> Iterator[tuple[list[Server], str]]:
    """Run several servers on one database, in which each agent `hot-N` has a budget."""
    key = prepare(folder, database=address)
    asyncio.run(_make_budgets(folder, address, budgets))
    with ExitStack() as stack:
        yield [stack.enter_context(serving(folder, database=address)) for _ in range(processes)], key


async def _make_budgets(folder: Path, address: str, budgets: int) -> None:
    treasury = Treasury(Settings(data_dir=folder, database_url=address))
    organisation, *_ = await treasury.organisations.list()
    for number in range(budgets):
        budget = Budget(
            id=new_id(), limit=LIMIT_NUSD, created_at=1, scope=Scope(agent=f"hot-{number}"),
            period=Period.TOTAL,
        )  # fmt: skip

        async def create(change: Change, budget: Budget = budget) -> Budget:
            return await changes.create(change, budget)

        await treasury.enforcement.desk.change(organisation.org, create)
    await treasury.stop()


def asks_beside_batches(work: Path, results: Results, databases: Databases, *, repeats: int) -> None:
    """Measure how long authorisations take while another process writes batches of the same organisation."""
    bodies = work / "bodies"
    write_bodies(bodies, calls_of(ORDERED), BODIES)
    takes = count()
    loads: list[tuple[Load, Load]] = []
    for _ in range(repeats):
        with databases.fresh() as address, _processes(work / "beside", address, 2, 1) as (servers, key):
            asking, writing = servers

            def ask(seconds: float, asking: Server = asking, key: str = key) -> Load:
                return _ask_all(work, [asking], key, take=next(takes), budgets=1, seconds=seconds)[0]

            ask(WARM_SECONDS)
            with ThreadPoolExecutor(1) as pool:
                batches_load = pool.submit(
                    send_batches, writing, bodies, key, range(BODIES), seconds=MEASURED_SECONDS + 1
                )
                loads.append((ask(MEASURED_SECONDS), batches_load.result()))
    shutil.rmtree(bodies)
    notes: dict[str, float | str] = {
        "p50 ms": median(one.p50_ms for one, _ in loads),
        "authorisations/s": median(one.rate for one, _ in loads),
        "events/s beside": median(one.rate for _, one in loads) * BATCH_EVENTS,
    }
    name = "PostgreSQL: authorise while another process writes batches of the same organisation: 99 %"
    results.add(Figure(name, median(one.p99_ms for one, _ in loads), "ms", 250, at_least=False, notes=notes))
