"""What pricing needs from a storage engine: an organisation's overrides, and what is unpriced.

Implemented by `storage`, handed out by `wiring`. A process keeps one `PriceBook` per
organisation and builds a new one after `put`, `put_all` or `end`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bursar.core.ids import Org
from bursar.pricing.overrides import PriceOverride


class StoredOverride(NamedTuple):
    """An override as stored: what it says, and who said it when (microseconds UTC)."""

    id: bytes
    override: PriceOverride
    created_at: int
    actor: str


class UnpricedModel(NamedTuple):
    """A model, named as sent, that has usage without a cost.

    `requests` and `tokens` count the unpriced usage only; `first_at` and `last_at` are the
    usage's own times, microseconds UTC.
    """

    provider: str
    model: str
    requests: int
    tokens: int
    first_at: int
    last_at: int


class PriceStore(Protocol):
    """The price overrides of an organisation. Rows are ended, never deleted."""

    async def list(self, org: Org) -> Sequence[StoredOverride]:
        """Return every override, ended ones too, in the order in which they were put."""
        ...

    async def put(self, org: Org, override: PriceOverride, *, at: int, actor: str) -> StoredOverride:
        """Store an override; one with the same pattern, tier and valid_from is replaced.

        `at` is the present, microseconds UTC. Posted entries keep the price they were posted
        with; only a reprice, which posts new entries, changes them.
        """
        ...

    async def put_all(
        self, org: Org, overrides: Sequence[PriceOverride], *, at: int, actor: str
    ) -> Sequence[StoredOverride]:
        """Store many as by `put`, all in one transaction or none."""
        ...

    async def end(self, org: Org, override_id: bytes, *, valid_to: int, actor: str) -> StoredOverride:
        """Close an override: usage at or after `valid_to` no longer gets it.

        Raises:
            NotFound: No such override in this organisation.
            InvalidInput: `valid_to` is not after its `valid_from`.
        """
        ...

    async def unpriced(self, org: Org, *, limit: int) -> Sequence[UnpricedModel]:
        """Return the models with unpriced usage, the most requests first, at most `limit`."""
        ...
