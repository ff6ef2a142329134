"""What can be read of holds without deciding anything, and what that needs from a storage engine.

    http (one hold, lists, a refusal's holders)  →  HoldReader  →  values of `budgets`

Each call reads one snapshot of one organisation. Not here: budgets and windows by themselves
(`reading`), decisions (`desk`).
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.budget import Terms
from bursar.budgets.hold import Hold, HoldKind, HoldState
from bursar.budgets.refusal import Refused
from bursar.budgets.seen import WindowSeen
from bursar.budgets.window import WindowKey
from bursar.core.ids import Org
from bursar.enforcement.indexes import Indexes

WINDOWS_KEPT_MAX = 1_000
"""Windows whose holders are remembered, some hundred bytes each."""

REST = 9
"""Reading holders takes at most a tenth of the loop's time, whatever is refused."""


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


class LatelyHeld:
    """Who holds a window's room, read again only when its numbers have changed.

    A storm of refusals must not become a storm of reads: after a reading the same window is left
    alone for `REST` times as long as it took.
    """

    def __init__(self, reader: HoldReader) -> None:
        self._reader = reader
        self._kept: dict[tuple[Org, WindowKey], _Reading] = {}

    async def of(self, org: Org, refused: Refused) -> Holders:
        """Return who holds the room of a window that refused."""
        place = (org, refused.window)
        numbers = (refused.settled, refused.held)
        kept = self._kept.get(place)
        begun = time.perf_counter()
        if kept is not None and (kept.numbers == numbers or begun < kept.rests_until):
            return kept.holders
        holders = await self._reader.holders(org, refused.window)
        ended = time.perf_counter()
        if len(self._kept) >= WINDOWS_KEPT_MAX:
            self._kept.clear()
        self._kept[place] = _Reading(numbers, holders, ended + REST * (ended - begun))
        return holders


class _Reading(NamedTuple):
    numbers: tuple[int, int]
    holders: Holders
    rests_until: float
