"""An organisation: the owner of a ledger, and the first column of every key."""

from typing import Protocol

import msgspec

from bursar.core.ids import Org


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation.

    Attributes:
        org: Its number inside.
        id: Its 16 bytes outside (`org_…`).
        zone: IANA name; days, weeks and months of its reports and budgets begin there.
        currency: ISO 4217; every amount of its ledger is in it.
        cost_basis: Which cost counts (`pricing.basis`): auto, reported or computed.
    """

    org: Org
    id: bytes
    name: str
    zone: str = "UTC"
    currency: str = "USD"
    cost_basis: str = "auto"
    created_at: int = 0


class OrganisationStore(Protocol):
    """The organisations of one installation."""

    async def create(self, organisation: Organisation, *, actor: str) -> Organisation:
        """Store a new organisation and return it with its number.

        Raises:
            Conflict: The name is taken.
        """
        ...

    async def list(self) -> list[Organisation]:
        """Return all, oldest first."""
        ...
