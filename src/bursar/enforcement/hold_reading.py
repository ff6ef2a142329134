"""What can be read of holds without deciding anything, and what that needs from a storage engine.

    http (one hold, lists, a refusal's holders)  →  HoldReader  →  values of `budgets`

Each call reads one snapshot of one organisation. Not here: budgets and windows by themselves
(`reading`), decisions (`desk`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.budget import Terms
from bursar.budgets.hold import Hold, HoldKind, HoldState
from bursar.budgets.seen import WindowSeen
from bursar.budgets.window import WindowKey
from bursar.core.ids import Org
from bursar.enforcement.indexes import Indexes


class ShownHold(NamedTuple):
    """A hold, and its windows as they are now."""

    hold: Hold
    windows: tuple[WindowSeen, ...]


class HoldQuery(NamedTuple):
    """Which holds are looked for; empty or None means any.

    Attributes:
        before: The place behind which a page begins, from the page before; empty for the first.
        most: How many at most.
    """

    agent: str = ""
    project: str = ""
    budget: bytes | None = None
    state: HoldState | None = None
    kind: HoldKind | None = None
    before: bytes = b""
    most: int = 50


class HoldPage(NamedTuple):
    """Holds, newest first (open ones by their end); `following` is the next page's place, None at the end.

    A page may be short, even empty, and still have one after it: a look into the past is bounded.
    """

    holds: Sequence[ShownHold]
    following: bytes | None


class Holder(NamedTuple):
    """What one agent holds of a window, in how many holds."""

    agent: str
    amount: int
    holds: int


class Holders(NamedTuple):
    """Who holds a window's room, the most first; `is_partial` where only some holds were looked at."""

    agents: Sequence[Holder]
    is_partial: bool


class HoldReader(Protocol):
    """Holds as values."""

    async def get(self, org: Org, hold_id: bytes) -> ShownHold | None:
        """Return one hold."""
        ...

    async def by_key(self, org: Org, key: bytes) -> ShownHold | None:
        """Return the hold that stands for an idempotency key."""
        ...

    async def page(self, org: Org, query: HoldQuery) -> HoldPage:
        """Return one page of a list."""
        ...

    async def holders(self, org: Org, window: WindowKey) -> Holders:
        """Return who holds how much of a window now."""
        ...

    async def terms(self, org: Org, budget_id: bytes) -> Terms | None:
        """Return a budget's rules, also of one that is ended."""
        ...


class KnownBudgets:
    """Budgets by id, from the index that decides; those that are ended from storage."""

    def __init__(self, indexes: Indexes, reader: HoldReader) -> None:
        self._indexes = indexes
        self._reader = reader

    async def of(self, org: Org, windows: Sequence[WindowSeen]) -> Mapping[bytes, Terms]:
        """Return the rules of the budgets of some windows."""
        active = self._indexes.kept(org)
        found: dict[bytes, Terms] = {}
        for seen in windows:
            budget_id = seen.window.budget
            terms = active.get(budget_id) or await self._reader.terms(org, budget_id)
            if terms is not None:
                found[budget_id] = terms
        return found

    async def one(self, org: Org, budget_id: bytes) -> Terms | None:
        """Return the rules of one budget."""
        return self._indexes.kept(org).get(budget_id) or await self._reader.terms(org, budget_id)
