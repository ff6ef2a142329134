"""One budget of a dollar, many callers at once, a server that is killed in the middle; then the two books.

    Scenario + Target + seed  →  run  →  Outcome (the figures, and every promise that was broken)

Each run has an agent and a budget of its own. When the traffic is over the callers wait until
what dead callers held is back, ask on until nothing fits, and compare what they noted with
the budget's window.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from bursar.core.money import nusd_from_text
from bursar.core.time import system_clock, text_from_micros
from overspend_book import Book
from overspend_callers import (
    DEAD_AFTER_S,
    HARMLESS,
    INPUT_TOKENS,
    MODEL,
    Caller,
    Habits,
    Kind,
    long_tailed,
    tokens_bill,
)
from overspend_server import Target
from overspend_wire import Wire

LIMIT_NUSD = 1_000_000_000
LAPSE_S = 5.0
"""Beyond deadline and grace: how late the room of a dead caller may be back."""
JOB_S = 1.5
"""Within this long the server has let lapse what is due."""
WATCH_S = 0.05
LAST_CALLERS = 8
LEARNED_CALLS = 100


class Scenario(NamedTuple):
    """What kind of callers meet what kind of budget.

    Attributes:
        name: As the tables print it.
        kind: How they ask; None for callers that never ask and only report.
        habits: What goes wrong.
        is_bounded: They never spend more than they set aside, so the limit must hold.
        stops_at_refusal: A caller that is refused once goes home.
        is_learned: The agent has made calls before.
        keeps_abandoned: The budget keeps what nobody settled (`on_expiry`: `suspense`).
        used_at_least: The share of the limit that must be in use at the end; 0 for none promised.
    """

    name: str
    kind: Kind | None
    habits: Habits = HARMLESS
    is_bounded: bool = True
    stops_at_refusal: bool = False
    is_learned: bool = False
    keeps_abandoned: bool = False
    used_at_least: float = 0.99


class WindowNow(NamedTuple):
    """What the server says about the budget's window, nano-USD."""

    limit: int
    settled: int
    held: int
    overrun: int
    unheld: int


@dataclass
class Outcome:
    """What one run came to; all amounts nano-USD."""

    scenario: Scenario
    clients: int
    rounds: int
    seed: int
    where: str
    kills: int
    stops: int
    seconds: float
    book: Book
    window: WindowNow
    peak_nusd: int = 0
    wrong_refusals: int = 0
    back_after_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """What the provider charged, as a multiple of the limit."""
        return self.book.spent_nusd / self.window.limit

    @property
    def used(self) -> float:
        """What is settled and held at the end, as a multiple of the limit."""
        return (self.window.settled + self.window.held) / self.window.limit


async def run(
    target: Target, scenario: Scenario, clients: int, rounds: int, seed: int, *, kills: bool
) -> Outcome:
    """Run a scenario once; what it promised and did not keep stands in `faults`."""
    begun, killed_before, stopped_before = time.perf_counter(), target.kills, target.stops
    rng = random.Random(f"{scenario.name} {clients} {seed}")
    stage = await _staged(target, scenario, rng)
    watch = asyncio.create_task(_watch(stage))
    killer = asyncio.create_task(_kill(target, stage, clients * rounds if kills else 0))
    if scenario.kind is None:
        await asyncio.gather(*(_report_on(stage, rng.random()) for _ in range(clients)))
    else:
        await _all_call(stage, rng, clients, rounds)
    stage.is_over = True
    await killer
    back_after_s = await _until_lapsed(stage)
    if scenario.kind is not None and not scenario.stops_at_refusal:
        await _fill_up(stage, rng)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    seconds = time.perf_counter() - begun
    window = await stage.window()
    outcome = Outcome(
        scenario, clients, rounds, seed, target.name, target.kills - killed_before,
        target.stops - stopped_before, seconds, stage.book, window, stage.peak_nusd,
        len(stage.book.wrong_refusals()), back_after_s,
    )  # fmt: skip
    outcome.faults = [*stage.book.faults, *_broken(outcome)]
    stage.admin.cut()
    return outcome


@dataclass
class _Stage:
    """An agent and its budget."""

    target: Target
    scenario: Scenario
    agent: str
    budget_id: str
    admin: Wire
    book: Book
    peak_nusd: int = 0
    is_over: bool = False

    async def window(self, wire: Wire | None = None) -> WindowNow:
        """Return what the server says, and remember the most that was ever in use."""
        answer = await (wire or self.admin).ask("GET", f"/v1/budgets/{self.budget_id}")
        assert answer.status == 200, answer
        seen = cast("Mapping[str, str] | None", answer.body["window"])
        if seen is None:
            return WindowNow(LIMIT_NUSD, 0, 0, 0, 0)
        window = WindowNow(*(nusd_from_text(seen[name]) for name in WindowNow._fields))
        self.peak_nusd = max(self.peak_nusd, window.settled + window.held)
        return window

    def caller(self, rng: random.Random, habits: Habits) -> Caller:
        """Return one more caller of the agent."""
        assert self.scenario.kind is not None
        seed = rng.getrandbits(64)
        return Caller(self.target, self.agent, self.scenario.kind, habits, book=self.book, seed=seed)


async def _staged(target: Target, scenario: Scenario, rng: random.Random) -> _Stage:
    """Make the budget; an agent that has learned makes its calls before there is one."""
    agent = f"agent-{rng.getrandbits(32):08x}"
    admin = Wire(target.url, target.admin_key)
    stage = _Stage(target, scenario, agent, "", admin, Book(LIMIT_NUSD))
    if scenario.is_learned:
        earlier = stage.caller(rng, HARMLESS)
        for _ in range(LEARNED_CALLS):
            await earlier.call()
        earlier.close()
        stage.book = Book(LIMIT_NUSD)
    budget = {"name": scenario.name, "scope": {"agent": agent}, "metric": "cost", "period": "total"}
    budget |= {"limit": "1.00", "mode": "hard"}
    if scenario.keeps_abandoned:
        budget["on_expiry"] = "suspense"
    made = await admin.ask("POST", "/v1/budgets", budget)
    assert made.status == 201, made
    stage.budget_id = cast("str", made.body["id"])
    return stage


async def _all_call(stage: _Stage, rng: random.Random, clients: int, rounds: int) -> None:
    """Let all callers call at once, each `rounds` times in a row."""

    async def rounds_of(caller: Caller) -> None:
        for _ in range(rounds):
            is_granted = await caller.call()
            if stage.scenario.stops_at_refusal and not is_granted:
                break
        caller.close()

    callers = [stage.caller(rng, stage.scenario.habits) for _ in range(clients)]
    await asyncio.gather(*(rounds_of(caller) for caller in callers))


async def _fill_up(stage: _Stage, rng: random.Random) -> None:
    """Call on, without any mishap, until nothing fits."""

    async def until_refused(caller: Caller) -> None:
        while await caller.call():
            pass
        caller.close()

    await asyncio.gather(*(until_refused(stage.caller(rng, HARMLESS)) for _ in range(LAST_CALLERS)))
    # What a neighbour gave back after this one was refused: the very last room.
    await until_refused(stage.caller(rng, HARMLESS))


async def _until_lapsed(stage: _Stage) -> float:
    """Wait until nothing is held that will not stay held; return how long that took."""
    entries = [entry for entry in stage.book.entries.values() if entry.lapses_at is not None]
    if stage.scenario.keeps_abandoned:
        # Their time is over and the job has looked at them: what is held now stays held.
        over_at = max((entry.lapses_at or 0.0 for entry in entries), default=0.0) + JOB_S
        await asyncio.sleep(max(0.0, over_at - time.perf_counter()))
        return 0.0
    begun = time.perf_counter()
    while (await stage.window()).held:
        if time.perf_counter() - begun > 2 * DEAD_AFTER_S + LAPSE_S:
            stage.book.faults.append("the room of dead callers did not come back")
            break
        await asyncio.sleep(WATCH_S)
    for entry in entries:
        entry.lapsed_at = time.perf_counter()
    return time.perf_counter() - begun


async def _watch(stage: _Stage) -> None:
    wire = Wire(stage.target.url, stage.target.admin_key)
    try:
        while True:
            await stage.window(wire)
            await asyncio.sleep(WATCH_S)
    finally:
        wire.cut()


async def _kill(target: Target, stage: _Stage, planned: int) -> None:
    """Do harm twice: while the budget fills, and when half of the calls are asked for."""
    counts = stage.book.counts
    first = {"granted": 25, "reported": 25, "asked": planned // 5}
    for marks in (first, {"asked": planned // 2}) if planned else ():
        # Counts to be watched, no event: they lie in the book of many callers.
        while not (_is_reached(counts, marks) or stage.is_over):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        if not stage.is_over:
            await target.kill_and_start()


def _is_reached(counts: Mapping[str, int], marks: Mapping[str, int]) -> bool:
    return any(counts.get(what, 0) >= enough for what, enough in marks.items())


async def _report_on(stage: _Stage, seed: float) -> None:
    """Call the provider and report each call, until the server says that it is too much."""
    rng, book = random.Random(seed), stage.book
    wire = Wire(stage.target.url, stage.target.key)
    while True:
        await asyncio.sleep(rng.uniform(0.001, 0.02))
        output = min(long_tailed(rng), 4_096)
        event = {
            "agent_name": stage.agent, **MODEL, "input_tokens": INPUT_TOKENS, "output_tokens": output,
            "cost": 0, "timestamp": text_from_micros(system_clock()),
            "idempotency_key": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        }  # fmt: skip
        book.unheld_nusd += tokens_bill(output).cost_nusd
        answer = await wire.ask("POST", "/v1/ingest", {"events": [event]})
        book.count("reported")
        if answer.status == 202:
            continue
        is_stop = answer.status == 429 and answer.body.get("reason") == "tier_agent_limit"
        book.expect(that=is_stop, sentence=f"ingest: {answer.status} {answer.body}")
        book.count("stopped")
        break
    wire.cut()


def _broken(outcome: Outcome) -> list[str]:
    """Return a sentence for each promise that this run broke."""
    book, window, scenario = outcome.book, outcome.window, outcome.scenario
    kept = sum(e.worst_nusd for e in book.entries.values() if e.lapses_at is not None and e.granted_at)
    held = kept if scenario.keeps_abandoned else 0
    in_use = window.settled + window.held
    checks = [
        (window.settled == book.reported_nusd, f"settled {window.settled}, booked {book.reported_nusd}"),
        (window.held == held, f"held {window.held}, booked {held}"),
        (window.overrun == book.overrun_nusd, f"overrun {window.overrun}, booked {book.overrun_nusd}"),
        (window.unheld == book.unheld_nusd, f"unheld {window.unheld}, booked {book.unheld_nusd}"),
        (
            in_use <= window.limit + window.overrun + window.unheld,
            "more in use than listed excess explains",
        ),
        (not outcome.wrong_refusals, f"{outcome.wrong_refusals} refusals while room was certain"),
        (outcome.used >= scenario.used_at_least, f"only {outcome.used:.4f} used"),
    ]
    if scenario.is_bounded:
        most = max(outcome.peak_nusd, book.used_at_least_nusd, book.spent_nusd)
        checks.append((most <= window.limit, f"{most} in use at once, the limit is {window.limit}"))
    return [sentence for holds, sentence in checks if not holds]
