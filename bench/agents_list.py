"""How long the agents list and the overview take: 2,000 agents over ten million calls in one organisation.

Every agent calls all day, so that an hour has thousands of roll-up rows: the hard case. The file is made
once by the product's own intake and kept in `bench/data`; a run works on a copy, asks the whole app in
process with its clock set to where the file ends, and records calls between the questions.

    .venv/bin/python bench/agents_list.py [--events 10000000]
"""

import argparse
import asyncio
import random
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import httpx2
import msgspec

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, system_clock
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.identity.keys import Scope
from bursar.settings import Settings
from bursar.wiring import Treasury
from results import Figure, Results, say
from traffic import BATCH_EVENTS, MODELS

AGENTS = 2_000
DAYS = 90
RUN_HOURS = 6
ASKED = 31
DATA = Path(__file__).parent / "data"


class Made(msgspec.Struct):
    """A file of calls: how many, where they end, and a key that reads and writes it."""

    events: int
    ends_at: int
    key: str


def main() -> None:
    """Make the file where it is not there, and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    events = parser.parse_args().events
    folder = DATA / f"agents-{events}"
    note = folder / "made.json"
    if not note.exists():
        shutil.rmtree(folder, ignore_errors=True)
        note.write_bytes(msgspec.json.encode(asyncio.run(_make(folder, events))))
    copy = DATA / f"agents-{events}-work"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    try:
        asyncio.run(_ask(copy, msgspec.json.decode(note.read_bytes(), type=Made)))
    finally:
        shutil.rmtree(copy)


async def _make(folder: Path, events: int) -> Made:
    ends_at = system_clock()
    treasury = Treasury(Settings(data_dir=folder), clock=lambda: ends_at)
    org = (await treasury.create_organisation("bench", "UTC")).org
    key = await treasury.create_key(org, "bench", frozenset({Scope.INGEST, Scope.READ}))
    calls, done = _calls(events, ends_at), 0
    while part := list(islice(calls, BATCH_EVENTS)):
        done += (await treasury.intake.record(org, part)).recorded
        if done % 500_000 == 0:
            say(f"  {done:,} events")
    await treasury.stop()
    return Made(done, ends_at, key)


def _calls(events: int, ends_at: int) -> Iterator[UsageEvent]:
    """Yield calls of the days before `ends_at`, oldest first, by agents picked at random."""
    rng = random.Random(events)
    step = DAYS * MICROS_PER_DAY // events
    for number in range(events):
        yield call(rng, ends_at - (events - number) * step)


def call(rng: random.Random, at: int) -> UsageEvent:
    """Return one call at `at`: an agent's runs last six hours, four of five go to its first model."""
    agent = rng.randrange(AGENTS)
    provider, model = MODELS[(agent + (rng.random() < 0.2)) % len(MODELS)]
    key = (at // 1_000 << 80 | 7 << 76 | rng.getrandbits(64) | 2 << 62).to_bytes(16, "big")
    return UsageEvent(
        key=key,
        occurred_at=at,
        subject=Subject(f"agent-{agent:04d}", provider, model, f"project-{agent % 50}", "chat"),
        source=Source.INGEST,
        input_tokens=rng.randrange(50, 8_000),
        output_tokens=rng.randrange(1, 1_200),
        reported_nusd=rng.randrange(1, 20_000_000),
        duration_ms=rng.randrange(200, 20_000),
        run=f"{agent}-{at // (RUN_HOURS * MICROS_PER_HOUR)}",
    )


QUESTIONS = (
    ("agents list", "/v1/agents", 100.0),
    ("overview", "/v1/dashboard/overview", 30.0),
    ("rankings of 30 days", "/v1/dashboard/stats?range=30d", None),
    ("daily series, 90 days", "/v1/dashboard/spend?granularity=daily&days=90", None),
    ("hourly series, 7 days", "/v1/dashboard/spend", None),
    ("an agent's newest 50 runs", "/v1/agents/agent-0007/runs?limit=50", None),
    ("one agent", "/v1/agents/agent-0007", None),
)


async def _ask(folder: Path, made: Made) -> None:
    results = Results("agents")
    treasury = Treasury(Settings(data_dir=folder), clock=lambda: made.ends_at)
    org = (await treasury.organisations.list())[0].org
    transport = httpx2.ASGITransport(app=treasury.app)
    headers = {"Authorization": f"Bearer {made.key}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://bursar", headers=headers) as client:
        for name, path, target in QUESTIONS:
            first = await _took(client, path)
            quiet = [await _took(client, path) for _ in range(ASKED)]
            busy = []
            for number in range(ASKED):
                await _record(treasury, org, number, made.ends_at)
                busy.append(await _took(client, path))
            await _record(treasury, org, -1, made.ends_at - 10 * MICROS_PER_DAY)
            notes: dict[str, float | str] = {
                "first": first,
                "slowest": max(busy),
                "nothing new": median(quiet),
                "after a late call": await _took(client, path),
            }
            results.add(
                Figure(f"{name}, calls between", median(busy), "ms", target, at_least=False, notes=notes)
            )
    await treasury.stop()


async def _record(treasury: Treasury, org: Org, number: int, at: int) -> None:
    rng = random.Random(number)
    await treasury.intake.record(org, [call(rng, at - rng.randrange(60_000_000)) for _ in range(100)])


async def _took(client: httpx2.AsyncClient, path: str) -> float:
    begin = time.perf_counter()
    answer = await client.get(path)
    took = (time.perf_counter() - begin) * 1e3
    assert answer.status_code == 200, answer.text
    return took


if __name__ == "__main__":
    main()
