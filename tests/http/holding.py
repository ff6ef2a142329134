"""What the tests of holds share: an open treasury with budgets, and the requests around a call."""

from typing import Any

import httpx2

from support.desk import Desk

MISSING = "hold_" + "0" * 32


def budget(desk: Desk, limit: str = "1.00", **fields: object) -> dict[str, Any]:
    """Make a daily budget of one agent, with `fields` over it."""
    body = {"name": "daily", "scope": {"agent": "bot"}, "limit": limit, **fields}
    answer = desk.post("/v1/budgets", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def ask(desk: Desk, amount: str | None = "0.10", key: str | None = None, **fields: object) -> httpx2.Response:
    """Ask for a hold; `amount=None` leaves it to `usage=`."""
    body = {"agent": "bot", "model": "gpt-4o", **fields}
    body |= {} if amount is None else {"amount_usd": amount}
    body |= {} if key is None else {"idempotency_key": key}
    return desk.post("/v1/holds", body)


def held(desk: Desk, amount: str | None = "0.10", key: str | None = None, **fields: object) -> dict[str, Any]:
    """Return a hold that was granted."""
    answer = ask(desk, amount, key, **fields)
    assert answer.status_code == 201, answer.text
    hold: dict[str, Any] = answer.json()
    return hold


def settle(desk: Desk, hold: dict[str, Any], cost: str | None = None, **fields: object) -> httpx2.Response:
    body = fields if cost is None else {"cost_usd": cost, **fields}
    return desk.post(f"/v1/holds/{hold['id']}/settle", body)


def void(desk: Desk, hold: dict[str, Any], key: str | None = None) -> httpx2.Response:
    return desk.post(f"/v1/holds/{hold['id']}/void", {}, key=key)


def window(desk: Desk, made: dict[str, Any]) -> dict[str, Any]:
    """Return the budget's window as it is now."""
    found: dict[str, Any] = desk.get(f"/v1/budgets/{made['id']}").json()["window"]
    return found


def figures(desk: Desk, made: dict[str, Any]) -> tuple[str, str]:
    """Return what is settled and held."""
    now = window(desk, made)
    return now["settled"], now["held"]
