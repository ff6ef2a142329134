"""Agents: running totals, what they used in each period, and how they stand.

One snapshot gives all of it. Not here: sums of periods (`span_sums`), stops and budgets
(`agent_standings`).
"""

from collections.abc import Sequence
from functools import partial

from bursar.analytics.agents import Agent, AgentDay, AgentPage, AgentQuery, AgentReader, Use
from bursar.analytics.query import Dim, Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_HOUR
from bursar.storage.sql.agent_history import history
from bursar.storage.sql.agent_standings import Standings, standings
from bursar.storage.sql.directory import OTHER
from bursar.storage.sql.names import label_columns
from bursar.storage.sql.ports import Cell, Connection, Readers
from bursar.storage.sql.span_sums import SpanSums, Uses

# `%` of a time before 1970 is negative, and hours begin before it.
_LAST_HOUR = f"t.last_at - (t.last_at % {MICROS_PER_HOUR} + {MICROS_PER_HOUR}) % {MICROS_PER_HOUR}"
_AGENTS = f"""SELECT a.agent, a.name, a.created_at, t.errors, t.requests, t.cost_nusd,
        t.input_tokens + t.cache_read_tokens + t.cache_write_5m_tokens + t.cache_write_1h_tokens AS tokens_in,
        t.output_tokens + t.reasoning_tokens AS tokens_out, t.duration_ms, t.unpriced_requests,
        t.first_at, t.last_at,
        (SELECT h.model FROM rollup_agent AS h
            WHERE h.org = :org AND h.hour = {_LAST_HOUR} AND h.agent = a.agent AND h.requests > 0
            ORDER BY h.requests DESC, h.last_at DESC, h.model LIMIT 1) AS model
    FROM agent AS a LEFT JOIN agent_total AS t ON t.org = a.org AND t.agent = a.agent
    WHERE a.org = :org AND a.name > :after AND (:only = '' OR a.name = :only)
        AND (a.agent <> {OTHER} OR t.agent IS NOT NULL)
    ORDER BY a.name LIMIT :most"""
_SHOWN = (
    "r.agent", "r.name", "r.created_at", "r.errors", "r.requests", "r.cost_nusd", "r.tokens_in",
    "r.tokens_out", "r.duration_ms", "r.unpriced_requests", "r.first_at", "r.last_at",
)  # fmt: skip
# Those beyond the cap share a row, which is there before anybody needs it.
_COUNT = f"""SELECT count(*) FROM agent AS a WHERE org = ?1 AND (?2 = '' OR name = ?2) AND (agent <> {OTHER}
    OR EXISTS (SELECT 1 FROM agent_total AS t WHERE t.org = ?1 AND t.agent = a.agent))"""
_KNOWN = "SELECT 1 FROM agent WHERE org = ? AND name = ?"
_KEY_PREFIX = """SELECT prefix FROM api_key WHERE org = ? AND is_active <> 0 AND (?2 = '' OR agent = ?2)
    ORDER BY api_key DESC LIMIT 1"""

_NOTHING = Use()


class SqlAgents(AgentReader):
    """`analytics.agents.AgentReader` on read-only connections."""

    def __init__(self, readers: Readers, sums: SpanSums) -> None:
        self._readers = readers
        self._sums = sums

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return a page of agents."""
        return await self._readers.run(query.org, partial(self._page, query=query))

    async def history(self, org: Org, name: str, days: Sequence[Span]) -> list[AgentDay]:
        """Return what an agent used on each day by model."""
        return await self._readers.run(org, partial(history, org=org, name=name, days=days))

    async def knows(self, org: Org, name: str) -> bool:
        """Tell whether the organisation has an agent of that name."""
        return await self._readers.run_short(
            org, lambda one: one.execute(_KNOWN, (org, name)).fetchone() is not None
        )

    def _page(self, connection: Connection, *, query: AgentQuery) -> AgentPage:
        used = self._sums.used(connection, query.org, query.spans, query.now)
        found = _rows(connection, query)
        standing = standings(connection, query.org, query.now)
        agents = [_agent(row, used, standing) for row in found[: query.limit]]
        total = int(connection.execute(_COUNT, (query.org, query.only)).fetchone()[0])
        key = connection.execute(_KEY_PREFIX, (query.org, query.only)).fetchone()
        return AgentPage(agents, total, len(found) > query.limit, None if key is None else str(key[0]))


def _rows(connection: Connection, query: AgentQuery) -> list[tuple[Cell, ...]]:
    asked: dict[str, int | bytes | str | None] = {
        "org": query.org,
        "after": query.after,
        "only": query.only,
        "most": query.limit + 1,
    }
    model = label_columns(connection.dialect, Dim.MODEL, "r.model").values()
    return connection.listed(_AGENTS, (*_SHOWN, *model), asked)


def _agent(row: tuple[Cell, ...], used: list[Uses], standing: Standings) -> Agent:
    """Return an agent by the order of `_SHOWN`, and its model and provider."""
    number, name, created_at, errors, *totals, first_at, last_at, model, provider = row
    agent = int(number or 0)
    return Agent(
        name=str(name),
        created_at=int(created_at or 0),
        provider=None if provider is None else str(provider),
        model=None if model is None else str(model),
        total=Use(*(int(cell or 0) for cell in totals)),
        errors=int(errors or 0),
        used=tuple(Use._make(uses.get(agent, _NOTHING)) for uses in used),
        first_at=None if first_at is None else int(first_at),
        last_at=None if last_at is None else int(last_at),
        standing=standing.of(str(name)),
    )
