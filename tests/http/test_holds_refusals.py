"""How little a crowd of refusals reads; counted by tracing SQLite, whose reader asks within this thread."""

from collections.abc import Iterator

import pytest
from holding import ask, budget, held

from support.desk import Desk, open_desk
from support.engines import Database

ENGINES = ("sqlite",)


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def test_a_storm_of_refusals_reads_who_holds_the_room_once(desk: Desk) -> None:
    budget(desk)
    held(desk, "0.95")
    reads: list[str] = []
    connection = desk.treasury.engine.readers._connection()
    connection.set_trace_callback(lambda sql: reads.append(sql) if "legs FROM" in sql else None)
    refusals = [ask(desk, "0.10").json() for _ in range(30)]
    assert {refusal["held_by"][0]["amount"] for refusal in refusals} == {"0.95"}
    assert len(reads) == 2  # of those that are open, and of those in suspense; once each
    connection.set_trace_callback(None)
