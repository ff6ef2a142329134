"""The calls behind a figure, and those that could not be posted, from the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program import bursar
from support.server import Server, running_server

HUGE = 9_200_000_000
AT = "2026-01-05T12:00:00Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("events")
    with running_server(folder) as running:
        for key, cost in (("one", HUGE), ("two", HUGE), ("three", 0)):
            event = {
                "agent_name": "bot", "provider": "openai", "model": "gpt-4o", "input_tokens": 1000,
                "output_tokens": 10, "cost": cost, "timestamp": AT, "idempotency_key": key,
            }  # fmt: skip
            assert running.post("/v1/ingest", {"events": [event]}).status_code in {202, 422}
        yield running


def test_events_are_listed_and_one_is_explained(server: Server) -> None:
    listed = bursar("events", "list", "--data-dir", server.data_dir, "--json").document
    assert len(listed["data"]) == 2
    cheap = next(event for event in listed["data"] if event["cost_basis"] == "computed")
    shown = bursar("events", "show", cheap["id"], "--data-dir", server.data_dir)
    assert "1,000 × $2.50 / million = $0.0025" in shown.out
    assert "entry" in shown.out


def test_what_could_not_be_posted_is_listed_with_its_reason(server: Server) -> None:
    table = bursar("events", "set-aside", "--data-dir", server.data_dir)
    assert table.code == 0
    assert "9200000000.00" in table.out
    assert "64 bits" in table.out
    document = bursar("events", "set-aside", "--data-dir", server.data_dir, "--json").document
    assert [one["event"]["cost_usd"] for one in document["data"]] == ["9200000000.00"]
