"""A `pre` step beside servers that work: they notice nothing, whatever table it adds to."""

import asyncio
import threading

from bursar.storage.migrations.baseline import GLOBAL_TABLES
from bursar.storage.migrations.steps import Phase, Step, postgres_steps
from bursar.storage.postgres.migrate import migrate
from support.desk import event
from support.engines import PostgresDatabase
from support.server import Server, running_server

_TABLES = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'bursar' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relname <> 'schema_step'"""


def step(name: str, statement: str) -> Step:
    return Step(name, Phase.PRE, "more", (), (statement,))


def work(server: Server, number: int) -> list[int]:
    """Do one of each thing, and return the answers."""
    hold = server.post("/v1/holds", {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.01"})
    return [
        hold.status_code,
        server.post(f"/v1/holds/{hold.json()['id']}/settle", {"cost_usd": "0.01"}).status_code,
        server.post("/v1/ingest", {"events": [event(idempotency_key=f"call-{number}")]}).status_code,
        server.get("/v1/costs", groupBy="day,model").status_code,
        server.get("/v1/budgets").status_code,
    ]


def test_every_table_gets_a_column_and_an_index_while_a_server_works(postgres: PostgresDatabase) -> None:
    tables = [name for (name,) in postgres.rows(_TABLES)]
    assert {"event", "budget_window", *GLOBAL_TABLES} <= set(tables)
    added = [
        step(f"9{number:03}", f"ALTER TABLE {table} ADD COLUMN extra BIGINT")
        for number, table in enumerate(tables)
    ]
    index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS hold_by_extra ON bursar.hold (org, extra)"
    steps = [*postgres_steps(), *added, step("9999", index)]
    with running_server(postgres) as server:
        assert server.post("/v1/budgets", {"name": "d", "scope": {"agent": "bot"}, "limit": "9"}).is_success
        expected = work(server, 0)
        assert all(200 <= code < 300 for code in expected)
        answers: list[list[int]] = []
        is_over = threading.Event()

        def go_on() -> None:
            number = 1
            while not is_over.is_set():
                answers.append(work(server, number))
                number += 1

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            ran = asyncio.run(migrate(postgres.address, steps=steps))
        finally:
            is_over.set()
            thread.join()
        answers.append(work(server, -1))
    assert len(ran) == len(tables) + 1
    assert len(answers) > 1
    assert [one for one in answers if one != expected] == []
    assert postgres.verify().violations == ()
