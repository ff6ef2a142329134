"""Repeats, reordering and half-overlapping batches from many connections at once: exact all the same.

On PostgreSQL two servers take them, a third of the batches both at the same time. Long form (`make
faults`): ten thousand events, each at any place among all of them.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from support.book import Book, Totals
from support.engines import Database
from support.server import Server, running_server

CONNECTIONS = 16
EVENTS = 10_000 if os.environ.get("BURSAR_TEST_LONG") == "1" else 2_000
SINGLES = 200
SEED = int(os.environ.get("BURSAR_TEST_SEED", "5"))
CONFLICTS = 10
TOTALS = "SELECT sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nusd) FROM rollup_agent"

pytestmark = pytest.mark.long


@pytest.fixture
def servers(database: Database) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_server(database.folder, **database.environment))
            for _ in range(1 if database.kind == "sqlite" else 2)
        ]


def test_repeated_reordered_and_overlapping_batches_count_once(
    servers: list[Server], database: Database
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to repeat it by
    server, book = servers[0], Book(3)
    events = book.make(EVENTS)
    changed = {**events[0], "output_tokens": 1_000_000}
    statuses, _ = asyncio.run(_post_all(servers, [*_overlapping(events), [changed]]))
    assert statuses == {202}
    found = server.get(f"/v1/events/{events[0]['idempotency_key']}").json()
    assert found["usage"]["output_tokens"] in {1_000_000, events[0]["output_tokens"]}
    again = server.post("/v1/ingest", {"events": [events[0], changed]}).json()
    assert (again["accepted"], again["rejected"], again["duplicates"]) == (1, 1, 1)
    assert _totals(database).requests == EVENTS
    assert database.verify().violations == ()


def test_another_body_under_a_known_key_is_reported_and_not_counted(
    servers: list[Server], database: Database
) -> None:
    book = Book(SEED)
    events = book.make(CONFLICTS)
    others = [{**one, "cost": "5.00"} for one in events]
    # Both at once, each by a server of its own where there are two: whichever comes first is the event.
    statuses, rejected = asyncio.run(
        _post_all(servers, [[one] for pair in zip(events, others, strict=True) for one in pair])
    )
    assert (statuses, rejected) == ({202}, CONFLICTS)
    assert _totals(database).requests == CONFLICTS
    assert database.verify().violations == ()


def test_two_hundred_single_events_at_once_are_all_recorded(
    servers: list[Server], database: Database
) -> None:
    book = Book(4)
    singles = [[one] for one in book.make(SINGLES)]
    statuses, rejected = asyncio.run(_post_all(servers, singles + singles, connections=SINGLES))
    assert (statuses, rejected) == ({202}, 0)
    assert _totals(database) == book.totals()
    assert database.verify().violations == ()


def _totals(database: Database) -> Totals:
    return Totals(*database.rows(TOTALS)[0])


def _overlapping(events: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    """Return batches that hold each event one to five times, in any order, some within one batch."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    many = [one for one in events for _ in range(chance.randint(1, 5))]
    chance.shuffle(many)
    batches: list[list[dict[str, object]]] = []
    start = 0
    while start < len(many):
        size = chance.choice((1, 2, 10, 60, 100, 250))
        batches.append(many[start : start + size])
        start += max(1, size // 2)
    return batches


async def _post_all(
    servers: list[Server], batches: list[list[dict[str, object]]], *, connections: int = CONNECTIONS
) -> tuple[set[int], int]:
    """Post every batch, each connection taking the next one as soon as it is free.

    Returns the statuses, and how many events were rejected.
    """
    waiting, chance = list(reversed(batches)), random.Random(SEED)  # noqa: S311 - repeatable
    statuses: set[int] = set()
    rejected = 0
    limits = httpx2.Limits(max_connections=2 * connections)
    headers = {"Authorization": f"Bearer {servers[0].token}"}
    async with httpx2.AsyncClient(limits=limits, headers=headers, timeout=60, trust_env=False) as client:

        async def work() -> None:
            nonlocal rejected
            while waiting:
                batch = waiting.pop()
                chosen = servers if chance.random() < 1 / 3 else [chance.choice(servers)]
                answers = await asyncio.gather(
                    *(client.post(f"{one.base_url}/v1/ingest", json={"events": batch}) for one in chosen)
                )
                statuses.update(answer.status_code for answer in answers)
                rejected += max(answer.json().get("rejected", 0) for answer in answers)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
    return statuses, rejected
