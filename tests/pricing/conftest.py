from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.core.usage import Source, Subject, UsageEvent

MakeEvent = Callable[..., UsageEvent]


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture(scope="session")
def event() -> MakeEvent:
    def make(model: str, provider: str = "", at: str = "2026-11-01T00:00:00", **fields: Any) -> UsageEvent:  # noqa: ANN401 - a test's shorthand
        return UsageEvent(
            key=bytes(16),
            occurred_at=micros(at),
            subject=Subject("agent", provider, model),
            source=Source.INGEST,
            **fields,
        )

    return make
