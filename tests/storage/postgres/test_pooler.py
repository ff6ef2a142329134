"""Behind a real PgBouncer in transaction mode: nothing is kept on a connection between transactions."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bursar.core.errors import InvalidInput
from bursar.storage.migrations.steps import postgres_steps
from bursar.storage.postgres.fitness import made_fit
from bursar.storage.postgres.leadership import Leadership
from bursar.storage.postgres.migrate import migrate
from support.desk import event
from support.engines import PostgresDatabase
from support.pooler import pooled
from support.program import bursar
from support.server import Server, running_server

CALLS = 60
GRANTED = 40
"""Of `CALLS` holds of a cent, under a limit of 40 cents."""

NOW = 1_772_409_600_000_000


@pytest.fixture
def address(postgres: PostgresDatabase) -> Iterator[str]:
    with pooled(postgres) as made:
        yield made


def spend(server: Server, number: int) -> int:
    """Ask for a hold and settle it, record another call beside it, ask for a report now and then."""
    asked = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.01", "idempotency_key": f"hold-{number}"}
    hold = server.post("/v1/holds", asked)
    if hold.status_code == 201:
        settled = server.post(f"/v1/holds/{hold.json()['id']}/settle", {"cost_usd": "0.01"})
        assert settled.status_code == 200, settled.text
    sent = server.post("/v1/ingest", {"events": [event(idempotency_key=f"call-{number}")]})
    assert sent.status_code in {200, 202}, sent.text
    if number % 5 == 0:
        assert server.get("/v1/costs", groupBy="day,model").status_code == 200
    return hold.status_code


def test_several_processes_work_behind_it_and_spend_no_more_than_the_limit(
    postgres: PostgresDatabase, address: str
) -> None:
    behind = {"BURSAR_DATABASE_URL": address, "BURSAR_DATABASE_POOLED": "true"}
    with running_server(postgres.folder, "--workers", "2", **behind) as server:
        budget = {"name": "daily", "scope": {"agent": "bot"}, "limit": "0.40"}
        assert server.post("/v1/budgets", budget).status_code == 201
        with ThreadPoolExecutor(16) as threads:
            answers = Counter(threads.map(lambda number: spend(server, number), range(CALLS)))
        assert answers[201] == GRANTED
        assert server.get("/v1/status").json()["database"] == "ok"
    assert postgres.rows("SELECT count(*) FROM event") == [(CALLS + GRANTED,)]
    assert postgres.rows("SELECT settled, held FROM budget_window") == [(400_000_000, 0)]
    assert postgres.verify().violations == ()


async def test_a_process_that_was_not_told_of_it_refuses_to_work(address: str) -> None:
    with pytest.raises(InvalidInput, match="set database_pooled to true"):
        await made_fit(address, NOW, is_pooled=False)


async def test_leaders_of_jobs_are_told_apart_behind_it(address: str) -> None:
    many = [Leadership(address) for _ in range(4)]
    for _ in range(3):
        assert [await one.takes("holds") for one in many] == [True, False, False, False]
    for one in many:
        one.end()


async def test_an_empty_database_is_made_ready_through_it(bare: PostgresDatabase) -> None:
    with pooled(bare) as address:
        await asyncio.gather(*(made_fit(address, NOW, is_pooled=True) for _ in range(3)))
        assert await migrate(address) == []
    assert bare.rows("SELECT count(*) FROM bursar.schema_step") == [(len(postgres_steps()),)]


def test_the_command_line_shows_the_plan_through_it(address: str) -> None:
    shown = bursar("migrate", "--plan", "--json", BURSAR_DATABASE_URL=address)
    assert shown.code == 0, shown.talk
    steps: list[dict[str, Any]] = shown.document["steps"]
    assert [step["step"] for step in steps] == [step.name for step in postgres_steps()]
    assert all(step["is_applied"] for step in steps)
