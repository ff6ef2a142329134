"""The values of a dashboard's first page: what the organisation used today, this week, this month.

    http/v1  →  OverviewReader  →  Overview  →  http/v1

Not here: series, and rankings by anything else (`query`); agents (`agents`).
"""

from typing import NamedTuple, Protocol

from bursar.analytics.agents import Use
from bursar.analytics.query import Span
from bursar.core.ids import Org
from bursar.core.periods import Period


class InPeriod(NamedTuple):
    """What was used in a span, and how many agents have called since it began."""

    used: Use
    active_agents: int


class OrgBudget(NamedTuple):
    """The cost budget of the whole organisation that is nearest to its end; nano-USD."""

    limit_nusd: int
    used_nusd: int
    period: Period


class Overview(NamedTuple):
    """An organisation at one moment.

    Attributes:
        plan: What its plan is called.
        events_per_day, max_agents: What it may send and have; None without a limit.
        periods: Of each span that was asked for, in their order.
    """

    plan: str
    events_per_day: int | None
    max_agents: int | None
    periods: tuple[InPeriod, ...]
    budget: OrgBudget | None


class Rank(NamedTuple):
    """One model or agent of a ranking; `provider` is a model's. The name is None for calls that give none."""

    name: str | None
    provider: str | None
    used: Use


class Ranking(NamedTuple):
    """The models and the agents of the highest cost in a span, and what all of them used."""

    models: list[Rank]
    agents: list[Rank]
    total: Use


class OverviewReader(Protocol):
    """An organisation's overview."""

    async def overview(self, org: Org, spans: tuple[Span, ...], now: int) -> Overview:
        """Return the overview, read in one snapshot.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...

    async def ranking(self, org: Org, span: Span, now: int, *, most: int) -> Ranking:
        """Return at most `most` models and as many agents, the highest cost first.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...
