"""The values of agents as lists and pages show them: what each spent in which period, and how it stands.

    http/v1  →  AgentQuery  →  storage  →  AgentPage  →  http/v1

Input counts every token that was sent, cached ones too; output counts reasoning. Not here: an
agent's events (`events`), its runs (`runs`), sums by any other dimension (`query`).
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from bursar.analytics.query import Span
from bursar.core.ids import Org
from bursar.core.periods import Period, window_at
from bursar.core.time import MICROS_MAX, MICROS_PER_MINUTE

AGENTS_MAX = 10_000
"""Most agents of one page: as many as an organisation has."""

ACTIVE_MICROS = 5 * MICROS_PER_MINUTE
"""An agent is active for so long after its last call; then it is idle, and its run completed."""


class Use(NamedTuple):
    """What was used in a span: calls, nano-USD, tokens, time; `unpriced` calls are in no cost."""

    events: int = 0
    cost_nusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    duration_ms: int = 0
    unpriced: int = 0


def total(uses: Iterable[Use]) -> Use:
    """Return the sum of several."""
    return Use(*map(sum, zip(Use(), *uses, strict=True)))


class Periods(NamedTuple):
    """Today, this ISO week and this calendar month, whole, in the organisation's zone."""

    today: Span
    week: Span
    month: Span


class Status(StrEnum):
    """How an agent stands. The values stand in the API."""

    ACTIVE = "active"
    IDLE = "idle"
    PAUSED = "paused"
    KILLED = "killed"


class Standing(NamedTuple):
    """What bounds an agent.

    Attributes:
        stopped: Paused or killed, by a gate or by a budget that is used up; None where nothing stops it.
        limit_nusd, used_nusd: Of its own cost budget that is nearest to its end; None without one.
        has_kill_switch: Something of its own would stop it by itself.
    """

    stopped: Status | None = None
    limit_nusd: int | None = None
    used_nusd: int = 0
    has_kill_switch: bool = False


class AgentQuery(NamedTuple):
    """Which agents, by name, and the spans whose use is asked for.

    Attributes:
        now: The deciding time, microseconds UTC.
        spans: Today, week, month, and the range that was asked for.
        after: Only agents whose name comes after it.
        only: Only the agent of that name, empty for all.
    """

    org: Org
    now: int
    spans: tuple[Span, ...]
    after: str = ""
    only: str = ""
    limit: int = AGENTS_MAX


class Agent(NamedTuple):
    """One agent.

    Attributes:
        provider, model: Those of most calls in the last hour in which it called; None before the first call.
        used: In all, and in each of the query's spans.
        first_at, last_at: Of its calls, None before the first.
    """

    name: str
    created_at: int
    provider: str | None
    model: str | None
    total: Use
    errors: int
    used: tuple[Use, ...]
    first_at: int | None
    last_at: int | None
    standing: Standing

    def status(self, now: int) -> Status:
        """Return how it stands at `now`."""
        if self.standing.stopped is not None:
            return self.standing.stopped
        is_active = self.last_at is not None and self.last_at > now - ACTIVE_MICROS
        return Status.ACTIVE if is_active else Status.IDLE


class AgentPage(NamedTuple):
    """Agents by name, how many there are in all, and the newest key by its first characters."""

    agents: list[Agent]
    total: int
    has_more: bool
    key_prefix: str | None


class AgentDay(NamedTuple):
    """What an agent used of one model on one day, or in a part of it: parts of the same add up.

    `day` is the day's place among those that were asked for.
    """

    day: int
    model: str
    provider: str | None
    used: Use


class AgentReader(Protocol):
    """Agents of one organisation. Each call reads one snapshot."""

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return a page of agents.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...

    async def history(self, org: Org, name: str, days: Sequence[Span]) -> Sequence[AgentDay]:
        """Return what an agent used on each day by model; nothing for unknown names."""
        ...

    async def knows(self, org: Org, name: str) -> bool:
        """Tell whether the organisation has an agent of that name."""
        ...


def periods_at(zone: ZoneInfo, now: int) -> Periods:
    """Return the day, the ISO week and the calendar month of `zone` that hold `now`."""
    spans = []
    for period in (Period.DAILY, Period.WEEKLY, Period.MONTHLY):
        window = window_at(period, zone, 0, now)
        ends_at = MICROS_MAX if window.ends_at is None else window.ends_at
        spans.append(Span(window.starts_at, ends_at))
    return Periods(*spans)
