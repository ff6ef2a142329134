"""A real ledger, written through the pipeline and read through the readers."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import uuid_utils

from bursar.analytics.events import EventHistory, EventPage, EventQuery
from bursar.analytics.query import Query, Report
from bursar.core.ids import Org
from bursar.core.usage import Price, RateCard, RateLine, ServiceTier, Source, Subject, UsageEvent
from bursar.ingestion.pipeline import BatchResult, process_batch
from bursar.storage.sql.event_pages import SqlEvents
from bursar.storage.sql.ports import Connection
from bursar.storage.sql.reports import SqlReports
from support.engines import Database

Result = TypeVar("Result")

NOW = 1_775_000_000_000_000
UNLISTED = "unlisted"
CARD = RateCard(
    digest=b"card-of-the-test",
    provider="openai",
    model="gpt-4o",
    service_tier=ServiceTier.STANDARD,
    lines=(RateLine("input_tokens", 2_500_000_000), RateLine("output_tokens", 10_000_000_000)),
    origin="made up",
)


class FlatPrices:
    """2,500 nano-USD an input token, 10,000 an output token; `UNLISTED` has no price."""

    def price(self, event: UsageEvent) -> Price:
        if event.subject.model == UNLISTED:
            return Price(None, None, event.reported_nusd)
        computed = 2_500 * event.input_tokens + 10_000 * event.output_tokens
        return Price(CARD, computed, event.reported_nusd or computed)


def cost_of(event: UsageEvent) -> int | None:
    return FlatPrices().price(event).cost_nusd


def call(
    at: int, agent: str = "scout", model: str = "gpt-4o", input_tokens: int = 100, **fields: object
) -> UsageEvent:
    """An event of `agent` at `at`; other names and counts by keyword."""
    names = {name: fields.pop(name) for name in ("project", "feature", "user") if name in fields}
    subject = Subject(agent, str(fields.pop("provider", "openai")), model, **names)  # type: ignore[arg-type]
    plain = {"key": uuid_utils.uuid7().bytes, "source": Source.INGEST, "input_tokens": input_tokens}
    return UsageEvent(occurred_at=at, subject=subject, **(plain | fields))  # type: ignore[arg-type]


class WrittenLedger:
    """The database, its writer and its readers; calls wait for their result."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._runner = asyncio.Runner()
        self.engine = database.engine(clock=lambda: NOW, canonicalise=lambda p, m: (p or "guessed", m))
        self.store, self.readers = self.engine.store, self.engine.readers
        self._orgs = iter(range(1, 1_000_000))

    def close(self) -> None:
        self.wait(self.engine.close())
        self._runner.close()

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def new_org(self) -> Org:
        return Org(next(self._orgs))

    async def write(self, org: Org, events: Sequence[UsageEvent]) -> BatchResult:
        return await self.store.transact(
            lambda tx: process_batch(tx.unit(org), events, FlatPrices(), now=NOW)
        )

    def record(self, org: Org, events: Sequence[UsageEvent]) -> BatchResult:
        return self.wait(self.write(org, events))

    def read(self, org: Org, work: Callable[[Connection], Result]) -> Result:
        return self.wait(self.readers.run_short(org, work))

    def report(self, query: Query) -> Report:
        return self.wait(SqlReports(self.readers).report(query))

    def page(self, query: EventQuery) -> EventPage:
        return self.wait(SqlEvents(self.readers).page(query))

    def history(self, org: Org, key: bytes) -> EventHistory | None:
        return self.wait(SqlEvents(self.readers).history(org, key))
