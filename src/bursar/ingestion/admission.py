"""Whether an organisation may send usage, and how much: its subscription, and its quotas where it has any.

    a decoded batch  →  Admission.of, admit  →  Admitted (what is recorded, what is not, why)

Quotas are off unless an operator sets them; without any, all this costs is a look-up. Rates are those
of this process; a day's count goes on from the ledger after a restart, and every few seconds where
other processes record as well. What is refused here is not
recorded, unless the operator has chosen that what is beyond a day's quota is.

Not here: budgets and stops, which record first (`enforcement`), answers (`http`).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple, Protocol

from bursar.core.errors import AppError, Kind
from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.core.zones import day_begins_at, day_of, parse_zone
from bursar.directory.organisations import NO_QUOTAS, Organisation, OrganisationStore, SubscriptionStatus

KEPT_SECONDS = 0.8
"""How long a change of an organisation that was made elsewhere may go unnoticed; less than a second
with the time of a request."""

RECOUNT_SECONDS = 5.0
"""How long what other processes record is not counted in a day's quota."""

REJECTED_KEPT_MAX = 100
"""Agents beyond the cap whose names are kept to be shown."""

DAILY, BURST, AGENTS = "daily_limit", "burst", "tier_agent_limit"


class SubscriptionStopped(AppError):
    """The subscription is paused or cancelled: nothing is recorded until it is resumed."""

    kind = Kind.DENIED
    code = "subscription_stopped"

    def __init__(self, status: SubscriptionStatus) -> None:
        super().__init__(
            f"the subscription is {status.value}; resume it and send again, nothing was recorded"
        )
        self.more = {"subscription_status": status.value, "resume_at": None}


class TooManyAgents(AppError):
    """One more agent than the plan allows."""

    kind = Kind.RATE_LIMITED
    code = AGENTS

    def __init__(self, agent: str, plan: str, agents_max: int) -> None:
        super().__init__(f"{agent} would be one more than the {agents_max} agents of the plan {plan}")
        self.more = {"reason": AGENTS, "cause": "max_agents", "tier": plan, "max_agents": agents_max,
                     "rejected_agents": [agent]}  # fmt: skip


class AdmissionReader(Protocol):
    """What quotas read of the ledger."""

    async def events_since(self, org: Org, since: int) -> int:
        """Return how many new events were committed since an instant."""
        ...

    async def agent_names(self, org: Org) -> set[str]:
        """Return the names of all known agents."""
        ...


class Refusal(NamedTuple):
    """Why something of a batch is not recorded.

    Attributes:
        reason: One of the three that the published client knows.
        retry_after_s: Only for a burst.
        resume_at: When it ends by itself, microseconds UTC; None where somebody has to end it.
        more: What else is told.
    """

    reason: str
    detail: str
    retry_after_s: int | None = None
    resume_at: int | None = None
    more: Mapping[str, object] = MappingProxyType({})


class Admitted(NamedTuple):
    """What of a batch is recorded.

    Attributes:
        positions: Of the events that are recorded; None for all of them.
        refusal: Why not all of them are.
        is_whole: The request is refused as a whole: its client is to stop, or to come again.
        rejected_agents: Those beyond the cap.
    """

    positions: Sequence[int] | None = None
    refusal: Refusal | None = None
    is_whole: bool = False
    rejected_agents: tuple[str, ...] = ()


ALL = Admitted()


@dataclass
class _Counts:
    """What this process knows of one organisation's use."""

    day_ends_at: int = 0
    counted_at: float = 0.0
    events: int = 0
    tokens: float = 0.0
    refilled_at: float | None = None
    agents: set[str] = field(default_factory=set)
    rejected: dict[str, None] = field(default_factory=dict)


class Admission:
    """Knows each organisation's subscription and quotas, at most a second old.

    Args:
        organisations: Where they stand.
        reader: What counts go on from.
        clock: Microseconds UTC.
        monotonic: Seconds of a clock that never steps.
        records_beyond: Record what is beyond a day's quota all the same, and answer as if not.
        is_shared: Whether other processes record for the same organisations.
    """

    def __init__(
        self,
        organisations: OrganisationStore,
        reader: AdmissionReader,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
        records_beyond: bool = False,
        is_shared: bool = False,
    ) -> None:
        self._organisations = organisations
        self._reader = reader
        self._clock = clock
        self._monotonic = monotonic
        self._records_beyond = records_beyond
        self._is_shared = is_shared
        self._known: dict[Org, tuple[float, Organisation]] = {}
        self._forgotten = 0
        self._counts: dict[Org, _Counts] = {}

    def forget(self, org: Org) -> None:
        """Read an organisation anew with the next request: it was changed here."""
        self._forgotten += 1
        self._known.pop(org, None)

    async def of(self, org: Org) -> Organisation | None:
        """Return the organisation whose quotas have to be looked at; None where it has none.

        Raises:
            SubscriptionStopped: It may not send anything.
        """
        known = self._known.get(org)
        if known is None or known[0] <= self._monotonic():
            forgotten, until = self._forgotten, self._monotonic() + KEPT_SECONDS
            known = (until, await self._organisations.get(org))
            if forgotten == self._forgotten:
                self._known[org] = known
        organisation = known[1]
        if organisation.subscription_status is not SubscriptionStatus.ACTIVE:
            raise SubscriptionStopped(organisation.subscription_status)
        return None if organisation.quotas == NO_QUOTAS else organisation

    async def require_open(self, org: Org) -> None:
        """Refuse an organisation that may not send anything.

        Raises:
            SubscriptionStopped: Its subscription is paused or cancelled.
        """
        await self.of(org)

    async def require_room_for(self, org: Org, agent: str) -> None:
        """Refuse an agent that would be one too many.

        Raises:
            TooManyAgents: The cap is reached, and the agent is new.
        """
        organisation = await self.of(org)
        if organisation is None or organisation.quotas.max_agents is None:
            return
        most = organisation.quotas.max_agents
        if await self._beyond_cap(org, [agent], most):
            raise TooManyAgents(agent, organisation.plan, most)

    def rejected_agents(self, org: Org) -> list[str]:
        """Return the agents whose events are dropped for the cap, as far as this process has seen them."""
        counts = self._counts.get(org)
        return [] if counts is None else list(counts.rejected)

    async def admit(self, organisation: Organisation, events: Sequence[UsageEvent]) -> Admitted:
        """Return what of a batch is recorded, and count it; `returned` takes back what was no new event."""
        org, quotas = organisation.org, organisation.quotas
        if quotas.burst_per_s is not None:
            wait_s = self._wait_s(self._of(org), quotas.burst_per_s, len(events))
            if wait_s:
                detail = f"more than {quotas.burst_per_s} events a second; send the batch again"
                return Admitted((), Refusal(BURST, detail, wait_s), is_whole=True)
        admitted = ALL
        if quotas.max_agents is not None:
            admitted = await self._by_agents(organisation, events, quotas.max_agents)
            if admitted.is_whole:
                return admitted
        if quotas.events_per_day is None:
            return admitted
        return await self._by_day(organisation, len(events), admitted, quotas.events_per_day)

    def returned(self, org: Org, count: int) -> None:
        """Take back events that were counted and turned out to be repeats, or were not recorded."""
        if count:
            self._of(org).events -= count

    async def _by_agents(
        self, organisation: Organisation, events: Sequence[UsageEvent], most: int
    ) -> Admitted:
        names = dict.fromkeys(event.subject.agent for event in events)
        beyond = await self._beyond_cap(organisation.org, names, most)
        if not beyond:
            return ALL
        detail = f"the plan {organisation.plan} allows {most} agents; events of others were not recorded"
        more = {"cause": "max_agents", "tier": organisation.plan, "max_agents": most}
        refusal = Refusal(AGENTS, detail, more=more)
        kept = [place for place, event in enumerate(events) if event.subject.agent not in beyond]
        return Admitted(kept, refusal, not kept, tuple(beyond))

    async def _by_day(
        self, organisation: Organisation, count: int, admitted: Admitted, most: int
    ) -> Admitted:
        counts = self._of(organisation.org)
        now = self._clock()
        is_old = self._is_shared and self._monotonic() - counts.counted_at > RECOUNT_SECONDS
        if now >= counts.day_ends_at or is_old:
            counts.counted_at = self._monotonic()
            zone = parse_zone(organisation.zone)
            today = day_of(zone, now)
            counts.events = await self._reader.events_since(organisation.org, day_begins_at(zone, today))
            counts.day_ends_at = day_begins_at(zone, today + timedelta(1))
        positions = range(count) if admitted.positions is None else admitted.positions
        room = max(0, most - counts.events)
        if len(positions) <= room:
            counts.events += len(positions)
            return admitted
        kept = positions if self._records_beyond else positions[:room]
        counts.events += len(kept)
        fate = "recorded all the same" if self._records_beyond else "not recorded"
        detail = f"the day's {most} events are used up; what is beyond was {fate}"
        more = {"remaining": 0, "events_per_day": most, "tier": organisation.plan}
        refusal = Refusal(DAILY, detail, resume_at=counts.day_ends_at, more=more)
        return admitted._replace(positions=kept, refusal=refusal, is_whole=True)

    async def _beyond_cap(self, org: Org, names: Iterable[str], most: int) -> dict[str, None]:
        """Return those of the names that are new and for which there is no room; the others are known now."""
        counts = self._of(org)
        if all(name in counts.agents for name in names):
            return {}
        # Other doors make agents as well, so what is known is read again before a new one is refused.
        counts.agents |= await self._reader.agent_names(org)
        beyond: dict[str, None] = {}
        for name in names:
            if name in counts.agents:
                continue
            if len(counts.agents) < most:
                counts.agents.add(name)
            else:
                beyond[name] = None
        for name in [*beyond, *counts.rejected]:
            counts.rejected[name] = None
        counts.rejected = dict.fromkeys(
            [name for name in counts.rejected if name not in counts.agents][-REJECTED_KEPT_MAX:]
        )
        return beyond

    def _wait_s(self, counts: _Counts, rate: int, count: int) -> int:
        """Return after how many seconds to come again, 0 to go on.

        A batch that is larger than a second's events passes and is paid for afterwards, or
        it could never be sent.
        """
        now = self._monotonic()
        if counts.refilled_at is None:
            counts.tokens = float(rate)
        else:
            counts.tokens = min(float(rate), counts.tokens + (now - counts.refilled_at) * rate)
        counts.refilled_at = now
        if counts.tokens < 1:
            return max(1, round((1 - counts.tokens) / rate + 0.5))
        counts.tokens -= count
        return 0

    def _of(self, org: Org) -> _Counts:
        counts = self._counts.get(org)
        if counts is None:
            counts = self._counts[org] = _Counts()
        return counts
