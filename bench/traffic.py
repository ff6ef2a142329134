"""Deterministic traffic in the shape of agents' runs.

Twenty calls make a run and share agent, project, feature, user and model; that is what
roll-ups gain from, and what the size of a row on file depends on. The same seed gives the
same calls. Two renderings: a body of POST /v1/ingest with the fields that the AgentKavach
client sends (and project, feature, user), and the events that the storage takes.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
from isal import igzip

from bursar.core.time import text_from_micros
from bursar.core.usage import Source, Subject, UsageEvent

RUN_CALLS = 20
BATCH_EVENTS = 1_000
MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1"),
    ("openai", "o3"),
    ("anthropic", "claude-sonnet-4-20250514"),
    ("anthropic", "claude-opus-4-1"),
    ("anthropic", "claude-3-5-haiku-latest"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("mistral", "mistral-large-latest"),
    ("deepseek", "deepseek-chat"),
)
EXTRA: dict[str, object] = {"client_version": "1.4.2", "tags": {"team": "search", "stage": "canary"}}
"""Unknown fields of a body that takes the careful road: they become attributes."""


class Call(NamedTuple):
    """One model call; times in microseconds UTC, cost in nano-USD."""

    at: int
    key: bytes
    run: bytes
    subject: Subject
    input_tokens: int
    output_tokens: int
    cost_nusd: int
    duration_ms: int
    is_error: bool


class Fleet(NamedTuple):
    """The names that one organisation's calls carry; agents are picked by falling share."""

    agents: int = 5
    projects: int = 4
    features: int = 8
    users: int = 300


class Traffic:
    """An endless stream of calls of one organisation."""

    def __init__(self, seed: int, fleet: Fleet, *, ordered_keys: bool) -> None:
        self._rng = random.Random(seed)
        self._fleet = fleet
        self._ordered_keys = ordered_keys
        self._shares = list(accumulate(1 / rank for rank in range(1, fleet.agents + 1)))

    def calls(self, times: Iterable[int]) -> Iterator[Call]:
        """Yield a call for each instant, run after run."""
        instants = iter(times)
        while part := list(islice(instants, RUN_CALLS)):
            yield from self._run(part)

    def _run(self, instants: Sequence[int]) -> Iterator[Call]:
        rng, fleet = self._rng, self._fleet
        agent = rng.choices(range(fleet.agents), cum_weights=self._shares)[0]
        provider, model = MODELS[(agent + (rng.random() < 0.2)) % len(MODELS)]
        subject = Subject(
            f"agent-{agent:03d}",
            provider,
            model,
            f"project-{agent % fleet.projects}",
            f"feature-{rng.randrange(fleet.features)}",
            f"user-{rng.randrange(fleet.users):05d}",
        )
        run = self._key(instants[0])
        for at in instants:
            tokens_in, tokens_out = rng.randrange(50, 8_000), rng.randrange(1, 1_200)
            cost = tokens_in * 2_500 + tokens_out * 10_000
            yield Call(
                at,
                self._key(at),
                run,
                subject,
                tokens_in,
                tokens_out,
                cost,
                rng.randrange(200, 20_000),
                rng.random() < 0.01,
            )

    def _key(self, at: int) -> bytes:
        """Return a UUIDv7 of the call's own time, or a UUIDv4, from the seeded generator."""
        value = self._rng.getrandbits(128)
        version = 4
        if self._ordered_keys:
            value = value & (1 << 80) - 1 | at // 1_000 << 80
            version = 7
        value = value & ~(0xF << 76) | version << 76
        return (value & ~(0x3 << 62) | 0x2 << 62).to_bytes(16, "big")


def steady(start: int, step: int) -> Iterator[int]:
    """Yield instants `step` microseconds apart, for ever."""
    while True:
        yield start
        start += step


def event_of(call: Call, extra: dict[str, object] | None = None) -> UsageEvent:
    """Return the value that the pipeline takes, with the attributes of `extra`."""
    return UsageEvent(
        key=call.key,
        occurred_at=call.at,
        subject=call.subject,
        source=Source.INGEST,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        duration_ms=call.duration_ms,
        reported_nusd=call.cost_nusd,
        is_error=call.is_error,
        run=str(UUID(bytes=call.run)),
        attributes=extra,
    )


def item_of(call: Call) -> dict[str, object]:
    """Return the call as one item of POST /v1/ingest."""
    subject = call.subject
    return {
        "agent_name": subject.agent,
        "provider": subject.provider,
        "model": subject.model,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cost": call.cost_nusd / 1e9,
        "duration_ms": call.duration_ms,
        "timestamp": text_from_micros(call.at).replace("Z", "+00:00"),
        "idempotency_key": str(UUID(bytes=call.key)),
        "run_id": str(UUID(bytes=call.run)),
        "status": "error" if call.is_error else "success",
        "project": subject.project,
        "feature": subject.feature,
        "user": subject.user,
    }


def body_of(calls: Iterable[Call], extra: dict[str, object] | None = None) -> bytes:
    """Return the JSON body of a batch, each item with the fields of `extra`."""
    items = [{**item_of(call), **(extra or {})} for call in calls]
    return msgspec.json.encode({"events": items})


def write_bodies(
    folder: Path, calls: Iterator[Call], count: int, *, extra: dict[str, object] | None = None
) -> float:
    """Write `count` gzip bodies of `BATCH_EVENTS` calls as `00000`, `00001`, …; return bytes per event."""
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for number in range(count):
        body = igzip.compress(body_of(islice(calls, BATCH_EVENTS), extra))
        (folder / f"{number:05d}").write_bytes(body)
        total += len(body)
    return total / count / BATCH_EVENTS
