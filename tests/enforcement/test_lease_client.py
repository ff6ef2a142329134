"""The reference client where the server cannot be reached, and what of it is found later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.lease_client import Exceeded, LeaseClient, Settings, Unreachable
from support.proxy import Proxy
from support.server import Server, running_server

WORST = 10_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("leases") / "data") as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(int(server.base_url.rpartition(":")[2])) as opened:
        yield opened


def client_of(server: Server, agent: str, folder: Path, proxy: Proxy, **fields: Any) -> LeaseClient:  # noqa: ANN401
    server.post("/v1/budgets", {"name": agent, "scope": {"agent": agent}, "limit": "1.00"})
    url = f"http://127.0.0.1:{proxy.port}"
    settings = Settings(url, str(server.ingest_key), agent, "any-model", folder, heartbeat_s=30)
    return LeaseClient(settings._replace(**fields))


def window(server: Server, agent: str) -> tuple[str, str, str]:
    budgets = server.get("/v1/budgets").json()["data"]
    [shown] = [one["window"] for one in budgets if one["name"] == agent]
    return shown["settled"], shown["held"], shown["unheld"]


def spend(client: LeaseClient, most: int) -> int:
    """Call until the client refuses; return how often it did not."""
    for made in range(most):
        try:
            call = client.call(WORST)
        except (Unreachable, Exceeded):
            return made
        call.finish(WORST)
    return most


@pytest.mark.parametrize(("mode", "beyond"), [("closed", 0), ("safe", 3), ("open", 10)])
def test_a_cut_off_client_spends_its_rest_and_then_by_its_mode(
    server: Server, proxy: Proxy, tmp_path: Path, mode: str, beyond: int
) -> None:
    agent = f"agent-{mode}"
    client = client_of(server, agent, tmp_path, proxy, mode=mode, safe_usd="0.03")
    client.call(WORST).finish(WORST)
    proxy.cut()
    rest = 9  # a tenth of the limit was lent
    assert spend(client, rest + 10) == rest + beyond
    assert window(server, agent) == ("0.00", "0.10", "0.00")
    proxy.heal()
    assert client.close()
    unheld = f"{beyond / 100:.2f}"
    assert window(server, agent) == (f"{(1 + rest + beyond) / 100:.2f}", "0.00", unheld)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_sent_at_the_end_is_sent_by_the_next_process_once(
    server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    client = client_of(server, "heir", tmp_path, proxy)
    for cost in (3, 5, 7):
        client.call(WORST).finish(cost * 1_000_000)
    proxy.cut()
    assert not client.close()
    [journal] = tmp_path.iterdir()
    torn = journal.read_bytes()
    journal.write_bytes(torn + b'{"lease": "lse_0')  # as a power failure may leave it
    proxy.heal()
    heir = LeaseClient(client.settings)
    assert heir.replay() == 3
    assert window(server, "heir")[0] == "0.015"
    journal.write_bytes(torn)
    assert heir.replay() == 3
    assert window(server, "heir") == ("0.015", "0.085", "0.00")
    heir.close()


def test_a_lease_whose_answer_was_lost_is_asked_for_again_and_not_held_twice(
    server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    client = client_of(server, "again", tmp_path, proxy)
    body = {
        "idempotency_key": "lost",
        "instance": client._instance,
        "agent": "again",
        "model": "any-model",
        "wants": {"amount_usd": "0.010000000"},
    }
    client._asking = body
    assert server.post("/v1/leases", body, key=server.ingest_key).status_code == 201
    client.call(WORST).finish(WORST)
    assert window(server, "again")[1] == "0.01"
    assert client.close()
    assert window(server, "again")[:2] == ("0.01", "0.00")


def test_a_full_budget_refuses_with_the_server_s_own_words(
    server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    client = client_of(server, "full", tmp_path, proxy)
    assert spend(client, 200) == 100
    with pytest.raises(Exceeded) as caught:
        client.call(WORST)
    assert caught.value.problem["reason"] == "no_room"
    assert client.close()
    assert window(server, "full") == ("1.00", "0.00", "0.00")
