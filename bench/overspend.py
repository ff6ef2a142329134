"""How far can a budget of one dollar be overspent? Entry of `make overspend`.

Starts a real server on a directory of its own, lets many callers spend one budget at once
(calls of about a cent, some keys sent twice at once, some calls never made, some callers dying,
the server killed with SIGKILL and started again in the middle), and prints what was spent at
the provider as a multiple of the limit. Then the same with several servers on one PostgreSQL, of which
one is killed, and the database stopped at once, in the middle. Afterwards the callers' own book must
equal the budget's window, to the last nano-dollar, and `bursar ledger verify` must find nothing.

Ends with 1 when anything that was promised did not hold.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from overspend_callers import (
    ASKS_FOR_ALL,
    BOUNDS_NOTHING,
    BOUNDS_OUTPUT,
    NAMES_AMOUNT,
    PASSES_OURS_ON,
    TAKES_LESS,
    Habits,
)
from overspend_scenarios import Outcome, Scenario, run
from overspend_server import Others, Own, Several, Target, own_server, own_servers
from overspend_tables import figures_of, publish, tables
from postgres_server import services
from results import Results, machine, say

MISHAPS = Habits()
SILENT = Habits(cuts=0, deaths=0, silences=0.04)
SCENARIOS = (
    Scenario("names the amount", NAMES_AMOUNT, MISHAPS),
    Scenario("bounds its output", BOUNDS_OUTPUT, MISHAPS),
    Scenario("passes on the bound we answer", TAKES_LESS, MISHAPS),
    Scenario("dies after the call; the budget keeps it", NAMES_AMOUNT, SILENT, keeps_abandoned=True),
    Scenario("bounds nothing", BOUNDS_NOTHING, MISHAPS, is_bounded=False, used_at_least=0.8),
    Scenario("never asks, only reports", None, is_bounded=False),
)
"""Of the tables, with all clients; one server for all, killed twice in each."""
UNBOUND = (
    Scenario(
        "any agent, with the model's maximum set aside", ASKS_FOR_ALL, stops_at_refusal=True, used_at_least=0
    ),
    Scenario("a new agent", PASSES_OURS_ON, stops_at_refusal=True, used_at_least=0),
    Scenario(
        "an agent with 100 calls behind it",
        PASSES_OURS_ON,
        stops_at_refusal=True,
        is_learned=True,
        used_at_least=0,
    ),
)
"""How much of a budget callers without `max_output_tokens` can use."""
UNBOUND_CLIENTS = 50


def main() -> int:
    """Run everything that was chosen; 1 when a promise was broken."""
    options = _options()
    work = Path(tempfile.mkdtemp(prefix="overspend-"))
    work.chmod(0o711)  # PostgreSQL runs as another user, and must get to its own folder in it
    results = Results("overspend")
    say(f"machine: {machine()}; seed {options.seed}")
    try:
        if options.url:
            outcomes = asyncio.run(_all(Others(options.url, options.key), options))
            faults = []
        else:
            with own_server(work / "data") as server:
                outcomes = asyncio.run(_all(server, options))
            faults = _verified(server)
            for processes in options.processes:
                with own_servers(work, processes) as servers:
                    outcomes += asyncio.run(_bounded(servers, options))
                    faults += _verified(servers)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for one in outcomes:
        where = f"{one.scenario.name}, {one.clients} callers {one.where}"
        faults += [f"{where}: {text}" for text in one.faults]
    for figure in figures_of(outcomes):
        results.add(figure)
    print("\n" + tables(outcomes))
    if not options.quick:
        print(f"written to {results.write()}")
    for document in options.publish:
        publish(document, tables(outcomes), options.seed)
    for fault in faults:
        print(f"BROKEN: {fault}", file=sys.stderr)
    return 1 if faults else 0


async def _all(target: Target, options: argparse.Namespace) -> list[Outcome]:
    """Run every scenario, one after the other."""
    rounds = {clients: max(4, options.calls // clients) for clients in options.clients}
    chosen = [(scenario, clients) for scenario in SCENARIOS for clients in options.clients]
    chosen += [(scenario, UNBOUND_CLIENTS) for scenario in UNBOUND]
    outcomes = []
    for scenario, clients in chosen:
        say(f"== {scenario.name}, {clients} callers")
        kills = isinstance(target, Own) and scenario in SCENARIOS
        outcomes.append(
            await _told(target, scenario, clients, rounds.get(clients, 20), options.seed, kills=kills)
        )
    return outcomes


async def _bounded(target: Several, options: argparse.Namespace) -> list[Outcome]:
    """Run what promises the limit on several servers, with the first number of callers."""
    clients = options.clients[0]
    rounds = max(4, options.calls // clients)
    outcomes = []
    for scenario in SCENARIOS:
        if scenario.is_bounded and scenario.kind is not None:
            say(f"== {scenario.name}, {clients} callers, {target.name}")
            outcomes.append(await _told(target, scenario, clients, rounds, options.seed, kills=True))
    return outcomes


async def _told(
    target: Target, scenario: Scenario, clients: int, rounds: int, seed: int, *, kills: bool
) -> Outcome:
    one = await run(target, scenario, clients, rounds, seed, kills=kills)
    say(f"   spent {one.spent:.3f} of the limit, {one.seconds:.1f} s, {one.book.counts}")
    return one


def _verified(server: Own | Several) -> list[str]:
    """Prove the ledger that all of it has left behind."""
    code, text = server.verified()
    say(f"bursar ledger verify: {'nothing violated' if code == 0 else text}")
    return [] if code == 0 else [f"bursar ledger verify: {text}"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1_000], help="callers at once")
    parser.add_argument("--calls", type=int, default=10_000, help="calls asked for in each scenario")
    parser.add_argument(
        "--processes",
        type=int,
        nargs="*",
        default=[2, 4] if services.binaries() else [],
        help="so many servers on one PostgreSQL, each number in turn; none where it is not installed",
    )
    parser.add_argument("--quick", action="store_true", help="50 callers, 500 calls, no results file")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--url", help="a server that runs already; nothing is killed or verified then")
    parser.add_argument("--key", help="a key of it that may do everything")
    parser.add_argument(
        "--publish",
        type=Path,
        nargs="*",
        default=[],
        help="put the tables between the marks of these documents",
    )
    options = parser.parse_args()
    if options.quick:
        options.clients, options.calls = [50], 500
        options.processes = options.processes[:1]
    if options.url and not options.key:
        parser.error("--url needs --key")
    return options


if __name__ == "__main__":
    sys.exit(main())
