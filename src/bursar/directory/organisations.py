"""An organisation: the owner of a ledger, and the first column of every key."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from bursar.core.ids import Org


class SubscriptionStatus(StrEnum):
    """Whether the organisation may send usage: paused and cancelled ones are refused, and may read."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """What it may send at most; None is without a limit.

    Attributes:
        events_per_day: In its own day, which begins at midnight of its zone.
        burst_per_s: Events in one second.
        max_agents: Agents that are known.
    """

    events_per_day: int | None = None
    burst_per_s: int | None = None
    max_agents: int | None = None


NO_QUOTAS = Quotas()


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation.

    Attributes:
        org: Its number inside.
        id: Its 16 bytes outside (`org_…`).
        zone: IANA name; days, weeks and months of its reports and budgets begin there.
        currency: ISO 4217; every amount of its ledger is in it.
        cost_basis: Which cost counts (`pricing.basis`): auto, reported or computed.
        deleted_at: Since when nothing of it may be used, until it is restored; its rows stay.
        plan: What its plan is called; decides nothing by itself.
        display: What a dashboard shows and how; decides nothing about money.
    """

    org: Org
    id: bytes
    name: str
    zone: str = "UTC"
    currency: str = "USD"
    cost_basis: str = "auto"
    created_at: int = 0
    deleted_at: int | None = None
    subscription_status: SubscriptionStatus = SubscriptionStatus.ACTIVE
    plan: str = "self_hosted"
    quotas: Quotas = NO_QUOTAS
    display: Mapping[str, object] = msgspec.field(default_factory=dict)


class OrganisationStore(Protocol):
    """The organisations of one installation."""

    async def get(self, org: Org) -> Organisation:
        """Return one organisation, a deleted one too.

        Raises:
            NotFound: There is none of that number.
        """
        ...

    async def create(self, organisation: Organisation, *, actor: str) -> Organisation:
        """Store a new organisation and return it with its number.

        Raises:
            Conflict: The name is taken.
        """
        ...

    async def change(self, org: Org, changes: Mapping[str, object], *, at: int, actor: str) -> Organisation:
        """Replace fields of an organisation, with an audit entry `organisation.change`.

        `changes` has values by the names of `Organisation`: name, zone, deleted_at, subscription_status,
        plan, quotas (whole), display (whole).

        Raises:
            Conflict: The new name is taken.
        """
        ...

    async def list(self) -> list[Organisation]:
        """Return all, oldest first, deleted ones too."""
        ...
