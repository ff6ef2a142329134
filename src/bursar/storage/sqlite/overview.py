"""An organisation's overview in SQLite: sums of periods, agents that called, its plan and its budget."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from bursar.analytics.agents import Use
from bursar.analytics.overview import InPeriod, OrgBudget, Overview, OverviewReader
from bursar.analytics.query import Span
from bursar.core.errors import NotFound
from bursar.core.ids import Org
from bursar.storage.sqlite.agent_standings import nearest_of_organisation
from bursar.storage.sqlite.readers import SqliteReaders
from bursar.storage.sqlite.span_sums import SpanSums

_ORGANISATION = "SELECT plan, events_per_day, max_agents FROM organisation WHERE org = ?"
# Number 0 is calls that name no agent.
_ACTIVE = "SELECT count(*) FROM agent_total WHERE org = ? AND agent > 0 AND last_at >= ? AND first_at < ?"


class SqliteOverviews(OverviewReader):
    """`analytics.overview.OverviewReader` on read-only connections."""

    def __init__(self, readers: SqliteReaders, sums: SpanSums) -> None:
        self._readers = readers
        self._sums = sums

    async def overview(self, org: Org, spans: tuple[Span, ...], now: int) -> Overview:
        """Return the overview."""
        return await self._readers.run(partial(self._overview, org=org, spans=spans, now=now))

    def _overview(
        self, connection: sqlite3.Connection, *, org: Org, spans: Sequence[Span], now: int
    ) -> Overview:
        # First, as `used` must be what takes the snapshot.
        used = self._sums.used(connection, org, spans, now)
        organisation = connection.execute(_ORGANISATION, (org,)).fetchone()
        if organisation is None:
            raise NotFound("no such organisation")
        periods = [
            InPeriod(
                Use._make(uses.get(0, Use())), int(connection.execute(_ACTIVE, (org, *span)).fetchone()[0])
            )
            for span, uses in zip(spans, used, strict=True)
        ]
        seen = nearest_of_organisation(connection, org, now)
        budget = None
        if seen is not None:
            window = seen.window
            limit, settled = (seen.budget.limit, 0) if window is None else (window.limit, window.settled)
            budget = OrgBudget(limit, settled, seen.budget.period)
        plan, events_per_day, max_agents = organisation
        return Overview(plan, events_per_day, max_agents, tuple(periods), budget)
