"""Four servers on one database, many callers, budgets of every kind: nothing is overspent, nothing is stuck.

Short form: two thousand authorisations of one budget, and five seconds of everything. Long form
(`make faults`): ten thousand, a thousand at a time, and two minutes. `BURSAR_TEST_SEED` sets the seed.
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from bursar.core.money import text_from_nusd
from overspend_wire import Answer, Wire
from support.engines import Database
from support.server import Server, running_server

ENGINES = ("postgres",)
LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
SERVERS = 4
ASKED = 10_000 if LONG else 2_000
AT_ONCE = 1_000 if LONG else 200
TWICE = 0.1
SECONDS = float(os.environ.get("BURSAR_TEST_SECONDS", "120" if LONG else "5"))
CLOSING_S = 0.1
"""What connections need to be closed before their loop is."""
CALLERS = 16
SCALE = max(1, round(SECONDS / 5))
"""Of the limits: so that there is room for as long as it goes on."""
CENT = 10_000_000
AGENTS, PROJECTS, RUNS = 4, 3, 10
LAPSED_S = 8.0
P99_S = 0.25
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
HOLDS = "SELECT count(*), count(DISTINCT key) FROM hold"
WINDOWS = """SELECT b.name, w.settled, w.held, w.limit_amount + w.overrun + w.unheld + w.lowered
    FROM budget_window w JOIN budget b ON b.org = w.org AND b.id = w.budget"""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def servers(module_database: Database) -> Iterator[list[Server]]:
    database = module_database
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_server(database.folder, **database.environment))
            for _ in range(SERVERS)
        ]


def budget(server: Server, name: str, limit: int, **fields: object) -> str:
    body = {"name": name, "limit": text_from_nusd(limit), "period": "total"} | fields
    answer = server.post("/v1/budgets", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


# --- one budget, all at once


class Crowd:
    """Callers of one budget; each is connected to two servers, for a request that is sent twice at once."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.granted: dict[str, str] = {}
        self.amounts: dict[str, int] = {}
        self.statuses: Counter[int] = Counter()
        self._numbers = iter(range(ASKED))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._ask_on(random.Random(f"{SEED} {number}")))  # noqa: S311 - repeatable
        await asyncio.sleep(CLOSING_S)

    async def _ask_on(self, chance: random.Random) -> None:
        wires = [Wire(one.base_url, one.token) for one in chance.sample(self.servers, 2)]
        for number in self._numbers:
            key = f"crowd-{number}"
            self.amounts[key] = chance.randint(CENT // 2, CENT)
            await self.ask(key, wires if chance.random() < TWICE else wires[:1])
        for wire in wires:
            wire.cut()

    async def ask(self, key: str, wires: list[Wire]) -> None:
        body = {"agent": "crowd", "model": "gpt-4o", "amount_usd": text_from_nusd(self.amounts[key]),
                "idempotency_key": key, "deadline_s": 3600}  # fmt: skip
        answers = await asyncio.gather(*(wire.ask("POST", "/v1/holds", body) for wire in wires))
        for answer in answers:
            assert answer.status in {200, 201, 402}, answer
            self.statuses[answer.status] += 1
            if answer.status != 402:
                hold = str(answer.body["id"])
                assert self.granted.setdefault(key, hold) == hold, f"two holds for {key}"


def test_a_crowd_shares_one_budget_to_its_last_room(servers: list[Server], module_database: Database) -> None:
    limit = ASKED * CENT // 2
    budget(servers[0], "one", limit, scope={"agent": "crowd"})
    crowd = Crowd(servers)
    begun = time.monotonic()
    asyncio.run(crowd.run())
    seconds = time.monotonic() - begun
    granted = sum(crowd.amounts[key] for key in crowd.granted)
    print(  # noqa: T201 - the figures of the reliability page
        f"seed {SEED}: {ASKED} authorisations, {AT_ONCE} at a time, {SERVERS} servers, {seconds:.1f} s:"
        f" {len(crowd.granted)} granted, {granted / limit:.4f} of the limit; {dict(crowd.statuses)}"
    )
    assert 0.95 < granted / limit <= 1
    assert module_database.rows(HOLDS) == [(len(crowd.granted), len(crowd.granted))]
    assert (granted, 0) in module_database.rows("SELECT held, settled FROM budget_window")

    async def replay() -> None:
        wires = [Wire(one.base_url, one.token) for one in servers]
        for number, key in enumerate(list(crowd.granted)[:200]):
            await crowd.ask(key, [wires[number % SERVERS]])
        for wire in wires:
            wire.cut()
        await asyncio.sleep(CLOSING_S)

    asyncio.run(replay())
    assert module_database.verify().violations == ()
    assert module_database.rows(DEADLOCKS) == [(0,)]


# --- budgets of every kind, and all that may happen to them


class Spent(NamedTuple):
    """One call as its caller knows it."""

    agent: str
    project: str
    has_key: bool
    cost: int


class Stop(NamedTuple):
    """An agent that was killed, between two instants at which it certainly was."""

    agent: str
    since: float
    until: float


class Mixed:
    """Everything at once, until the time is over.

    Attributes:
        spent: What was settled.
        stops: When agents were certainly stopped.
        granted: Agent, question and answer of each hold.
        took: How long answers took, s.
    """

    def __init__(self, servers: list[Server], budgets: list[str], key: str) -> None:
        self.servers, self.budgets, self.key = servers, budgets, key
        self.spent: list[Spent] = []
        self.stops: list[Stop] = []
        self.granted: list[tuple[str, float, float]] = []
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()
        self._until = time.monotonic() + SECONDS
        self._number = 0
        self._wires: dict[tuple[object, str, str], Wire] = {}

    async def run(self) -> None:
        works: list[Callable[[random.Random], Awaitable[None]]] = [self._call] * CALLERS
        works += [self._change_limits, self._stop_agents]
        async with asyncio.TaskGroup() as group:
            for number, work in enumerate(works):
                chance = random.Random(f"{SEED} mixed {number}")  # noqa: S311 - repeatable
                group.create_task(self._repeat(work, chance))
        for wire in self._wires.values():
            wire.cut()
        await asyncio.sleep(CLOSING_S)

    async def _repeat(self, work: Callable[[random.Random], Awaitable[None]], chance: random.Random) -> None:
        while time.monotonic() < self._until:
            await work(chance)
            await asyncio.sleep(chance.uniform(0.02, 0.1))

    async def _ask(
        self, chance: random.Random, method: str, path: str, body: object, key: str = ""
    ) -> Answer:
        server = chance.choice(self.servers)
        wire_name = asyncio.current_task(), server.base_url, key
        if wire_name not in self._wires:
            self._wires[wire_name] = Wire(server.base_url, key or server.token)
        answer = await self._wires[wire_name].ask(method, path, body)
        self.statuses[
            f"{path.rsplit('/', maxsplit=1)[-1] if method == 'POST' else method} {answer.status}"
        ] += 1
        return answer

    async def _call(self, chance: random.Random) -> None:
        self._number += 1
        agent, key = f"a{chance.randrange(AGENTS)}", chance.choice(("", self.key))
        project = chance.choice(("", *(f"p{number}" for number in range(PROJECTS))))
        worst = chance.randint(1, CENT)
        fate = chance.random()
        body: dict[str, object] = {
            "agent": agent, "model": "gpt-4o", "amount_usd": text_from_nusd(worst),
            "idempotency_key": f"mixed-{self._number}", "deadline_s": 1 if fate < 0.1 else 600, "grace_s": 1,
        }  # fmt: skip
        body |= {"project": project} if project else {}
        body |= {"run": f"r{chance.randrange(RUNS)}"} if chance.random() < 0.5 else {}
        held = await self._ask(chance, "POST", "/v1/holds", body, key)
        self.took.append(held.answered_at - held.asked_at)
        assert held.status in {201, 402, 403}, held
        if held.status != 201:
            return
        self.granted.append((agent, held.asked_at, held.answered_at))
        if fate < 0.1:
            return  # nobody ends it: it lapses
        path = f"/v1/holds/{held.body['id']}"
        if fate < 0.25:
            assert (await self._ask(chance, "POST", f"{path}/void", {}, key)).status == 200
            return
        cost = chance.randint(0, worst)
        settled = await self._ask(chance, "POST", f"{path}/settle", {"cost_usd": text_from_nusd(cost)}, key)
        assert settled.status == 200, settled
        self.took.append(settled.answered_at - settled.asked_at)
        self.spent.append(Spent(agent, project, bool(key), cost))

    async def _change_limits(self, chance: random.Random) -> None:
        path = f"/v1/budgets/{chance.choice(self.budgets)}"
        limit = text_from_nusd(chance.randint(20, 400) * SCALE * CENT)
        changed = await self._ask(chance, "PATCH", path, {"limit": limit})
        assert changed.status == 200, changed

    async def _stop_agents(self, chance: random.Random) -> None:
        agent = f"a{chance.randrange(AGENTS)}"
        killed = await self._ask(chance, "POST", f"/v1/agents/{agent}/kill", {})
        assert killed.status == 200, killed
        await asyncio.sleep(chance.uniform(0, 0.4))
        resumed = await self._ask(chance, "POST", f"/v1/agents/{agent}/resume", {})
        assert resumed.status == 200, resumed
        self.stops.append(Stop(agent, killed.answered_at, resumed.asked_at))


def test_budgets_of_every_kind_hold_whatever_happens_to_them_at_once(
    servers: list[Server], module_database: Database
) -> None:
    first = servers[0]
    made = first.post("/v1/keys", {"name": "callers", "scopes": ["ingest"]}).json()
    budgets = [budget(first, "org", 300 * SCALE * CENT)]
    budgets += [
        budget(first, f"p{n}", 200 * SCALE * CENT, scope={"project": f"p{n}"}) for n in range(PROJECTS)
    ]
    budgets += [budget(first, f"a{n}", 200 * SCALE * CENT, scope={"agent": f"a{n}"}) for n in range(AGENTS)]
    budgets += [budget(first, "key", 200 * SCALE * CENT, scope={"api_key": made["id"]})]
    budget(first, "runs", 50 * SCALE * CENT, scope={"agent": "a0"}, period="run")
    budget(first, "minutes", 1000 * SCALE * CENT, scope={"agent": "a1"}, period="minute")
    mixed = Mixed(servers, budgets, str(made["raw_key"]))
    asyncio.run(mixed.run())
    deadline = time.monotonic() + LAPSED_S
    while any(held for name, _, held, _ in module_database.rows(WINDOWS) if name != "one"):
        assert time.monotonic() < deadline, "a hold that nobody ends does not lapse"
        time.sleep(0.1)
    took = sorted(mixed.took)
    p99 = took[len(took) * 99 // 100]
    print(  # noqa: T201 - the figures of the reliability page
        f"seed {SEED}, {SECONDS:g} s: {len(mixed.granted)} holds, {len(mixed.spent)} settled,"
        f" {len(mixed.stops)} kills, median {took[len(took) // 2] * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms,"
        f" load {os.getloadavg()[0]:.1f}; {dict(sorted(mixed.statuses.items()))}"
    )
    for name, settled, held, most in module_database.rows(WINDOWS):
        assert settled + held <= most, name
        if name not in {"one", "runs", "minutes"}:
            assert settled == sum(one.cost for one in mixed.spent if is_counted(name, one)), name
    for agent, asked_at, answered_at in mixed.granted:
        assert not any(
            stop.agent == agent and stop.since < asked_at and answered_at < stop.until for stop in mixed.stops
        ), f"{agent} was granted a hold while it was stopped"
    assert module_database.verify().violations == ()
    assert module_database.rows(DEADLOCKS) == [(0,)]
    assert not LONG or p99 < P99_S


def is_counted(name: str, one: Spent) -> bool:
    """Whether a budget counts a call: this test's own idea of it."""
    return name == "org" or name in {one.agent, one.project} or (name == "key" and one.has_key)
