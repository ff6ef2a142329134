"""What the tests of budgets share: calls that ask first, as a program makes them."""

from typing import Any

from support.server import Server


def ask(server: Server, key: str, amount: str = "0.40", agent: str = "bot", **fields: object) -> Any:  # noqa: ANN401 - JSON
    """Ask for a hold and return the answer's document, a refusal's too."""
    body = {"agent": agent, "model": "gpt-4o", "amount_usd": amount, "idempotency_key": key, **fields}
    return server.post("/v1/holds", body).json()


def spend(server: Server, key: str, cost: str = "0.40", agent: str = "bot", **fields: object) -> Any:  # noqa: ANN401 - JSON
    """Hold an amount and settle it whole."""
    hold = ask(server, key, cost, agent, **fields)
    answer = server.post(f"/v1/holds/{hold['id']}/settle", {"cost_usd": cost})
    assert answer.status_code == 200, answer.text
    return answer.json()
