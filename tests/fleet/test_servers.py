"""Two real servers on one database, each with a data directory of its own and the same secret."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.engines import Database
from support.server import Server, running_server

WITHIN_S = 1.0
EVENT = {
    "agent_name": "bot", "provider": "openai", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1,
    "cost": 0, "timestamp": "2026-03-01T14:00:00Z",
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("servers")
    secret = {"BURSAR_OPERATOR_TOKEN": f"op_{secrets.token_hex(32)}"}

    def place(name: str) -> Path:
        made = folder / name
        made.mkdir()
        (made / "operator.token").write_text(secret["BURSAR_OPERATOR_TOKEN"])
        return made

    with (
        running_server(place("one"), **shared.environment, **secret) as one,
        running_server(place("two"), **shared.environment, **secret) as two,
    ):
        yield one, two


def seconds_until(is_heard: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not is_heard():
        assert time.monotonic() - begun < 5
    return time.monotonic() - begun


def test_a_revoked_key_is_refused_by_the_other_server_within_a_second(pair: tuple[Server, Server]) -> None:
    one, two = pair
    made = one.post("/v1/keys", {"name": "k", "scopes": ["ingest"]}).json()
    body = {"events": [EVENT]}
    assert two.post("/v1/ingest", body, key=made["raw_key"]).status_code == 202
    assert one.request("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    took = seconds_until(lambda: two.post("/v1/ingest", body, key=made["raw_key"]).status_code == 401)
    assert took <= WITHIN_S


def test_a_kill_is_heard_by_the_other_server_with_the_next_question(pair: tuple[Server, Server]) -> None:
    one, two = pair
    budget = {"name": "daily", "scope": {"agent": "killed"}, "limit": "100.00"}
    assert one.post("/v1/budgets", budget).status_code == 201
    hold = {"agent": "killed", "model": "gpt-4o", "amount_usd": "0.10"}
    assert two.post("/v1/holds", hold).status_code == 201
    assert one.post("/v1/agents/killed/kill", {}).status_code == 200
    assert two.post("/v1/holds", hold).status_code == 403


def test_a_code_of_one_server_is_good_at_the_other(pair: tuple[Server, Server]) -> None:
    one, two = pair
    one.printed()
    person = {"email": "both@example.com", "password": "correct horse battery", "org_name": "both"}
    answer = one.post("/v1/auth/register", person)
    assert answer.status_code == 201, answer.text
    said, deadline = "", time.monotonic() + 5
    while time.monotonic() < deadline and not any(word.isdigit() and len(word) == 6 for word in said.split()):
        said += one.printed()
        time.sleep(0.05)
    code = next(word for word in said.split() if word.isdigit() and len(word) == 6)
    verified = two.post("/v1/auth/verify-email", {"email": person["email"], "code": code})
    assert verified.status_code == 200, verified.text
    token = verified.json()["access_token"]
    assert one.get("/v1/auth/me", key=token).status_code == 200
