"""What reading needs from a storage engine. Every question is bound to one organisation.

Each call reads one snapshot: what it returns was true together at one moment.
"""

from typing import Protocol

from bursar.analytics.events import EventHistory, EventPage, EventQuery, SetAside
from bursar.analytics.query import Query, Report
from bursar.core.ids import Org


class ReportReader(Protocol):
    """Sums over events."""

    async def zone(self, org: Org) -> str:
        """Return the IANA name of the organisation's zone."""
        ...

    async def report(self, query: Query) -> Report:
        """Return the rows of `query` and their total.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...


class EventReader(Protocol):
    """Single events."""

    async def page(self, query: EventQuery) -> EventPage:
        """Return the newest events that pass, at most `query.limit`."""
        ...

    async def history(self, org: Org, key: bytes) -> EventHistory | None:
        """Return one event by its key, None when the organisation has none."""
        ...


class QuarantineReader(Protocol):
    """Events that could not be posted."""

    async def quarantined(self, org: Org, *, before: int | None, limit: int) -> list[SetAside]:
        """Return the newest first, at most `limit`, all numbered below `before` where given."""
        ...
