"""Operations on money, to be cut or killed in their middle: what each needs before, and how it is asked for.

operation = OPERATIONS["settle"](desk)      a hold is there
operation()                                 is asked to be settled; ask again, it is the same
"""

from collections.abc import Callable
from typing import Any

import httpx2

from bursar.core.ids import new_id
from bursar.core.time import text_from_micros
from support.desk import Desk, event
from support.engines import Database

TABLES = ("event", "entry", "rollup_agent", "hold", "budget", "budget_window", "posting", "gate", "alert")
AGENT = "bot"
FREE = "free"
"""An agent whose events meet no budget."""

State = dict[str, list[tuple[Any, ...]]]
Operation = Callable[[Desk], Callable[[], httpx2.Response]]


def set_up(desk: Desk) -> None:
    """Make the budgets that `AGENT` meets."""
    desk.advance(1)
    for fields in (
        {"name": "day", "scope": {"agent": AGENT}, "limit": "5000.00"},
        {"name": "all", "scope": {"agent": AGENT}, "limit": "9000.00", "period": "total"},
    ):
        assert desk.post("/v1/budgets", fields).status_code == 201


def differences(*states: State) -> dict[str, list[list[tuple[Any, ...]]]]:
    """Return the tables that differ."""
    return {
        table: [one[table] for one in states]
        for table in TABLES
        if any(one[table] != states[0][table] for one in states)
    }


def state(database: Database) -> State:
    return {table: sorted(database.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def held(desk: Desk, **fields: object) -> str:
    body = {"agent": AGENT, "model": "gpt-4o", "amount_usd": "0.01", "idempotency_key": new_id().hex()}
    answer = desk.post("/v1/holds", body | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


# --- the operations: each prepares what it needs, and returns what is to be cut


def authorise(desk: Desk) -> Callable[[], httpx2.Response]:
    body = {"agent": AGENT, "model": "gpt-4o", "amount_usd": "0.01", "idempotency_key": new_id().hex()}
    return lambda: desk.post("/v1/holds", body)


def settle(desk: Desk) -> Callable[[], httpx2.Response]:
    hold = held(desk)
    body = {"usage": {"input_tokens": 100, "output_tokens": 100}, "idempotency_key": new_id().hex()}
    return lambda: desk.post(f"/v1/holds/{hold}/settle", body)


def void(desk: Desk) -> Callable[[], httpx2.Response]:
    hold = held(desk)
    return lambda: desk.post(f"/v1/holds/{hold}/void", {})


def extend(desk: Desk) -> Callable[[], httpx2.Response]:
    hold = held(desk)
    return lambda: desk.post(f"/v1/holds/{hold}/extend", {"deadline_s": 7200})


def expire(desk: Desk) -> Callable[[], httpx2.Response]:
    held(desk, deadline_s=1, grace_s=1)
    desk.now += 10_000_000

    def let_lapse() -> httpx2.Response:
        try:
            desk.run(desk.treasury.enforcement.run_due())
        except Exception as error:  # noqa: BLE001 - a job says it so; the next run does it
            assert type(error).__name__ == "Unavailable"  # noqa: PT017
            return httpx2.Response(503)
        return httpx2.Response(200)

    return let_lapse


def ingest(agent: str) -> Operation:
    def prepare(desk: Desk) -> Callable[[], httpx2.Response]:
        sent = [
            event(agent_name=agent, idempotency_key=new_id().hex(), timestamp=text_from_micros(desk.now))
            for _ in range(3)
        ]
        return lambda: desk.ingest(*sent)

    return prepare


def correct(desk: Desk) -> Callable[[], httpx2.Response]:
    first = event(agent_name=AGENT, idempotency_key=new_id().hex(), timestamp=text_from_micros(desk.now))
    assert desk.ingest(first).status_code == 202
    return lambda: desk.ingest(first | {"revision": 1, "output_tokens": 900})


def change_budget(desk: Desk) -> Callable[[], httpx2.Response]:
    budgets = desk.get("/v1/budgets").json()["data"]
    [chosen] = [one for one in budgets if one["name"] == "day"]
    higher = f"{float(chosen['limit']) + 1:.2f}"
    return lambda: desk.send("PATCH", f"/v1/budgets/{chosen['id']}", json={"limit": higher})


def kill(desk: Desk) -> Callable[[], httpx2.Response]:
    name = f"agent-{new_id().hex()[-8:]}"
    assert desk.ingest(event(agent_name=name)).status_code == 202
    return lambda: desk.post(f"/v1/agents/{name}/kill", {"reason": "test"})


OPERATIONS: dict[str, Operation] = {
    "authorise": authorise,
    "settle": settle,
    "void": void,
    "extend": extend,
    "expire": expire,
    "ingest": ingest(FREE),
    "ingest with budgets": ingest(AGENT),
    "correct": correct,
    "change a budget": change_budget,
    "kill": kill,
}
