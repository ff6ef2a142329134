"""The values of a dashboard's first page: what the organisation used today, this week, this month.

    http/v1  →  OverviewReader  →  Overview  →  http/v1

Not here: series and rankings (`query`), agents (`agents`).
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


class OverviewReader(Protocol):
    """An organisation's overview."""

    async def overview(self, org: Org, spans: tuple[Span, ...], now: int) -> Overview:
        """Return the overview, read in one snapshot.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...
