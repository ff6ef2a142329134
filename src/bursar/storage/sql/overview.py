"""An organisation's overview: sums of periods, agents that called, plan, budget, rankings."""

from collections.abc import Sequence
from functools import partial
from heapq import nsmallest

from bursar.analytics.agents import Use, total
from bursar.analytics.overview import InPeriod, OrgBudget, Overview, OverviewReader, Rank, Ranking
from bursar.analytics.query import Span
from bursar.core.errors import NotFound
from bursar.core.ids import Org
from bursar.storage.sql.agent_standings import nearest_of_organisation
from bursar.storage.sql.names import PROVIDER
from bursar.storage.sql.ports import Connection, Readers
from bursar.storage.sql.span_sums import SpanSums, Told, Used, Uses

_ORGANISATION = "SELECT plan, events_per_day, max_agents FROM organisation WHERE org = ?"
# Number 0 is calls that name no agent.
_ACTIVE = "SELECT count(*) FROM agent_total WHERE org = ? AND agent > 0 AND last_at >= ? AND first_at < ?"


_AGENT = "SELECT name, NULL FROM agent WHERE org = ? AND agent = ?"
_MODEL = f"SELECT name, {PROVIDER} FROM model WHERE org = ? AND model = ?"


class SqlOverviews(OverviewReader):
    """`analytics.overview.OverviewReader` on read-only connections."""

    def __init__(self, readers: Readers, by_agent: SpanSums) -> None:
        self._readers = readers
        self._sums = SpanSums(Told.IN_ALL)
        self._by_model = SpanSums(Told.BY_MODEL)
        self._by_agent = by_agent

    async def overview(self, org: Org, spans: tuple[Span, ...], now: int) -> Overview:
        """Return the overview."""
        return await self._readers.run(org, partial(self._overview, org=org, spans=spans, now=now))

    async def ranking(self, org: Org, span: Span, now: int, *, most: int) -> Ranking:
        """Return the dearest models and agents."""

        def work(connection: Connection) -> Ranking:
            return self._ranking(connection, org, span, now, most)

        return await self._readers.run(org, work)

    def _ranking(self, connection: Connection, org: Org, span: Span, now: int, most: int) -> Ranking:
        (agents,) = self._by_agent.used(connection, org, [span], now)
        (models,) = self._by_model.used(connection, org, [span], now)
        return Ranking(
            [_rank(connection, _MODEL, org, *one) for one in _dearest(models, most)],
            [_rank(connection, _AGENT, org, *one) for one in _dearest(agents, most)],
            total(map(Use._make, models.values())),
        )

    def _overview(self, connection: Connection, *, org: Org, spans: Sequence[Span], now: int) -> Overview:
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


def _dearest(uses: Uses, most: int) -> list[tuple[int, Used]]:
    """Return those of the highest cost that were used at all, then of the most calls."""
    used = [one for one in uses.items() if one[1][0]]
    return nsmallest(most, used, key=lambda one: (-one[1][1], -one[1][0], one[0]))


def _rank(connection: Connection, names: str, org: Org, number: int, used: Used) -> Rank:
    found = connection.execute(names, (org, number)).fetchone()
    name, provider = (None, None) if found is None else found
    return Rank(name, provider or None, Use._make(used))
