"""The doors that take bodies, each with a valid one, and throwing bodies at them with a clock."""

import gzip
import json
import time
from typing import NamedTuple

from support.desk import Desk, event


class Door(NamedTuple):
    """A route, a body it takes, and what surrounds an item in it (`%s` for the item)."""

    method: str
    path: str
    item: dict[str, object]
    wrap: str = "%s"
    is_operators: bool = False

    @property
    def valid(self) -> bytes:
        return (self.wrap % json.dumps(self.item)).encode()


INGEST = Door("POST", "/v1/ingest", event(run_id="run-1", prompt="say hi"), '{"events": [%s]}')
TRACK = Door(
    "POST",
    "/v1/track",
    {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 2, "latencyMs": 3.5,
     "metadata": {"feature": "research", "k": [1, {"a": None}]}, "userId": "u"},
)  # fmt: skip
EVENTS = Door(
    "POST",
    "/v1/events",
    {"agent": "research-bot", "provider": "openai", "model": "gpt-4o", "occurred_at": "2026-03-01T00:00:00Z",
     "input_tokens": 10, "output_tokens": 5, "cost_usd": "0.5", "duration_ms": 7, "attributes": {"a": 1}},
    '{"events": [%s]}',
)  # fmt: skip
HOLDS = Door(
    "POST",
    "/v1/holds",
    {"agent": "research-bot", "model": "gpt-4o", "provider": "openai", "project": "research", "user": "u",
     "run": "r", "parent_run": "p", "session": "s", "tags": {"team": "research"}, "ceiling_usd": "0.5",
     "usage": {"input_tokens": 10, "cache_read_tokens": 5, "max_output_tokens": 7}, "deadline_s": 60,
     "grace_s": 1.5, "allow_smaller": True, "min_output_tokens": 2, "depth": 1, "fingerprint": "f"},
)  # fmt: skip
KEYS = Door("POST", "/v1/keys", {"name": "research", "scopes": ["ingest"], "environment": "local"})
PRICES = Door(
    "POST",
    "/v1/prices",
    {"pattern": "openai/research-*", "per_million": {"input_tokens": "2.5", "output_tokens": "10"}},
)
EXPLAIN = Door("POST", "/v1/prices/explain", {"model": "research", "provider": "openai", "input_tokens": 5})
IMPORT = Door(
    "POST",
    "/v1/prices/import",
    {"gpt-research": {"input_cost_per_token": 1e-6, "litellm_provider": "openai", "mode": "chat"}},
)
CURSOR = Door("PUT", "/v1/imports/cursors/table", {"research": 5})
ORGANISATIONS = Door(
    "POST", "/v1/organisations", {"name": "research", "zone": "Europe/Berlin"}, is_operators=True
)
DOORS = [INGEST, TRACK, EVENTS, HOLDS, KEYS, PRICES, EXPLAIN, IMPORT, CURSOR, ORGANISATIONS]
LEDGER_DOORS = [INGEST, TRACK, EVENTS]


class Hit(NamedTuple):
    """What a body met: its status and the processor time it took, and its answer."""

    status: int
    cpu_s: float
    body: bytes


def throw(desk: Desk, door: Door, body: bytes, *, packed: bool = False, key: str | None = None) -> Hit:
    """Send `body` to `door` and look at the clock of the processor."""
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if packed else {})
    if door.is_operators and key is None:
        key = desk.treasury.operator_token
    begun = time.process_time()
    answer = desk.send(door.method, door.path, content=body, headers=headers, key=key)
    return Hit(answer.status_code, time.process_time() - begun, answer.content)


def compressed(body: bytes) -> bytes:
    return gzip.compress(body, 1)
