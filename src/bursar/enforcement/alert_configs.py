"""Alert configs: whom a share of a budget is to be told to, as rows of an agent or of the organisation.

    POST /v1/alerts/configs, sync-config  →  AlertConfig  →  storage; thresholds of the client's budgets

Kept now, delivered by whoever reads them later. Not here: alerts that were raised (`budgets.alert`).
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from bursar.budgets.budget import DEFAULT_THRESHOLDS, Action, Threshold
from bursar.budgets.reading import THRESHOLDS_MAX
from bursar.core.ids import Org

PERSON = "person"
KILL = "kill"
"""The channel that is no message: at that share the agent stops."""

CHANNELS = ("email", "slack", "pagerduty", "webhook", KILL)
CONFIGS_MAX = 500
"""Configs of one agent that persons may make; more say nothing new."""


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: at which share of which budgets of an agent who hears of it.

    Attributes:
        agent: Empty for the organisation's own budgets.
        channel: One of `CHANNELS`, or what a client called it.
        share_ppm: Millionths of the limit.
        metric: Which budgets, by metric; may be one that we do not know.
        target: An address, a URL or a routing key; None for the organisation's own.
        secret: What a webhook is signed with; never shown.
        is_delivered: False where the client that sent it delivers it itself.
        source: `person`, `sdk:<agent>`, or `sdk` for the organisation's.
        created_at: Microseconds UTC.
    """

    id: bytes
    agent: str
    channel: str
    share_ppm: int
    metric: str = "cost"
    target: str | None = None
    secret: str | None = None
    is_delivered: bool = True
    source: str = PERSON
    created_at: int = 0

    @property
    def rule(self) -> tuple[object, ...]:
        """What it says, without who it is and since when."""
        return (self.channel, self.share_ppm, self.metric, self.target, self.secret, self.is_delivered)


class ConfigStore(Protocol):
    """The configs of one organisation within one transaction."""

    async def know_agent(self, name: str) -> None:
        """Enter an agent that is new."""
        ...

    async def synced(self, agent: str) -> bytes | None:
        """Return what an agent's client asked for last, as it was kept."""
        ...

    async def put_synced(self, agent: str, body: bytes, at: int) -> None:
        """Keep what an agent's client has asked for."""
        ...

    async def of_agent(self, agent: str) -> Sequence[AlertConfig]:
        """Return the configs of an agent, or of the organisation (empty), oldest first."""
        ...

    async def add(self, configs: Iterable[AlertConfig]) -> None:
        """Store new configs."""
        ...

    async def remove(self, ids: Iterable[bytes]) -> None:
        """Take configs away; unknown ids are no fault."""
        ...


class ConfigReader(Protocol):
    """The configs as they can be read."""

    async def configs(
        self, org: Org, *, agent: str | None = None, after: bytes = b"", most: int
    ) -> Sequence[AlertConfig]:
        """Return configs in order of id: one agent's, the organisation's (empty), or all (None)."""
        ...

    async def config(self, org: Org, config_id: bytes) -> AlertConfig | None:
        """Return one config."""
        ...


def thresholds_of(configs: Iterable[AlertConfig], metric: str) -> tuple[Threshold, ...]:
    """Return the thresholds that configs ask of the budgets of one metric, lowest first.

    Without any config for that metric they are those of any budget. Where there are more than a budget
    may have, stops go before messages, and low shares before high ones.
    """
    wanted = {
        Threshold(one.share_ppm, Action.KILL if one.channel == KILL else Action.ALERT)
        for one in configs
        if one.metric == metric
    }
    if not wanted:
        return DEFAULT_THRESHOLDS
    kept = sorted(wanted, key=lambda t: (t.action is not Action.KILL, t.at_ppm))[:THRESHOLDS_MAX]
    return tuple(sorted(kept, key=lambda t: (t.at_ppm, t.action)))
