"""Repeats, reordering and half-overlapping batches from many connections at once: exact all the same."""

import asyncio
import random
from pathlib import Path

import httpx2

from bursar.wiring import verify_file
from support.book import Book, totals_of
from support.server import Server, running_server

CONNECTIONS = 16
EVENTS = 2_000
SINGLES = 200


def test_repeated_reordered_and_overlapping_batches_count_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        book = Book(3)
        events = book.make(EVENTS)
        batches = _overlapping(events)
        changed = {**events[0], "output_tokens": 1_000_000}
        statuses = asyncio.run(_post_all(server, [*batches, [changed]]))
        assert statuses == {202}
        (first_id,) = (row["idempotency_key"] for row in events[:1])
        assert server.get(f"/v1/events/{first_id}").json()["usage"]["output_tokens"] in {
            1_000_000,
            events[0]["output_tokens"],
        }
        again = server.post("/v1/ingest", {"events": [events[0], changed]}).json()
        assert (again["accepted"], again["rejected"], again["duplicates"]) == (1, 1, 1)
        assert totals_of(server.data_dir).requests == EVENTS
    assert verify_file(tmp_path / "data").violations == ()


def test_two_hundred_single_events_at_once_are_all_recorded(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        book = Book(4)
        singles = [[one] for one in book.make(SINGLES)]
        assert asyncio.run(_post_all(server, singles + singles, connections=SINGLES)) == {202}
        assert totals_of(server.data_dir) == book.totals()
    assert verify_file(tmp_path / "data").violations == ()


def _overlapping(events: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    """Return batches that hold each event one to five times, in any order, some within one batch."""
    chance = random.Random(5)  # noqa: S311 - repeatable
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
    server: Server, batches: list[list[dict[str, object]]], *, connections: int = CONNECTIONS
) -> set[int]:
    """Post every batch, each connection taking the next one as soon as it is free."""
    waiting = list(reversed(batches))
    statuses: set[int] = set()
    limits = httpx2.Limits(max_connections=connections)
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(
        base_url=server.base_url, limits=limits, headers=headers, timeout=60, trust_env=False
    ) as client:

        async def work() -> None:
            while waiting:
                answer = await client.post("/v1/ingest", json={"events": waiting.pop()})
                statuses.add(answer.status_code)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
    return statuses
