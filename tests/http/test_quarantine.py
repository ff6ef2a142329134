"""What cannot be posted is kept aside, listed once, and counted nowhere."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from bursar.settings import Settings
from bursar.wiring import Treasury

HUGE = {
    "agent_name": "bot",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1,
    "output_tokens": 1,
    "cost": 9_200_000_000,
    "timestamp": "2026-05-25T14:30:00Z",
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    treasury = Treasury(Settings(data_dir=tmp_path))
    await treasury.create_organisation("default", "UTC")
    transport = httpx2.ASGITransport(treasury.app)
    headers = {"Authorization": f"Bearer {treasury.operator_token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://bursar", headers=headers) as client:
        yield client
    await treasury.stop()


async def send(client: httpx2.AsyncClient, *keys: str) -> httpx2.Response:
    return await client.post(
        "/v1/ingest", json={"events": [{**HUGE, "idempotency_key": key} for key in keys]}
    )


async def test_a_sum_beyond_64_bits_is_set_aside_and_said(client: httpx2.AsyncClient) -> None:
    answer = await send(client, "one", "two")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert answer.json()["rejected_items"] == [{"index": 1, "code": "amount_overflow"}]
    listed = (await client.get("/v1/quarantine")).json()["data"]
    assert [one["event"]["cost_usd"] for one in listed] == ["9200000000.00"]
    costs = (await client.get("/v1/costs", params={"from": "2026-05-01", "to": "2026-06-01"})).json()
    assert costs["meta"]["total"]["requests"] == 1


async def test_the_same_event_sent_again_is_listed_once(client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await send(client, "one", "two")
    assert len((await client.get("/v1/quarantine")).json()["data"]) == 1


async def test_pages_follow_each_other_newest_first(client: httpx2.AsyncClient) -> None:
    await send(client, "base", "a", "b", "c")
    first = (await client.get("/v1/quarantine", params={"limit": 2})).json()
    rest = (await client.get("/v1/quarantine", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert (len(first["data"]), first["has_more"]) == (2, True)
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
