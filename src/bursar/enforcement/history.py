"""Past calls through a proposed budget: pages of the ledger, decided one after the other.

    History (storage)  →  Replayer  →  budgets.simulate  →  Replay  →  `POST /v1/budgets/simulate`

The decisions run in a thread of their own and fetch page after page, so that neither the loop nor a
read transaction is held for long. Nothing is written. Not here: the decisions (`budgets.simulate`).
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.budget import Budget
from bursar.budgets.settlement import Spend
from bursar.budgets.simulate import Simulation, simulated
from bursar.core.errors import Unavailable
from bursar.core.ids import Org
from bursar.enforcement.indexes import names_of

EVENTS_MAX = 500_000
"""Events of one simulation: some ten seconds of one core."""

PAGE_EVENTS = 2_000
"""Events read at once: some 20 ms of a reader."""


class PastRange(NamedTuple):
    """From when on, and up to when (exclusive): microseconds UTC."""

    starts_at: int
    ends_at: int


class PastPlace(NamedTuple):
    """Where a page of past calls ended."""

    occurred_at: int
    key: bytes


class History(Protocol):
    """Reads past calls of one organisation."""

    async def zone(self, org: Org) -> str:
        """Return the IANA name of the organisation's zone."""
        ...

    async def page(self, org: Org, within: PastRange, after: PastPlace | None, most: int) -> Sequence[Spend]:
        """Return the next calls as they stand after their corrections, oldest first; fewer at the end.

        Raises:
            Unavailable: Too many readers are waiting.
        """
        ...


class Replay(NamedTuple):
    """What a proposed budget would have done.

    Attributes:
        events_read: All calls of the range, those of other scopes too.
        read_until: Where reading ended because it was too much; None where all was read.
    """

    simulation: Simulation
    events_read: int
    read_until: int | None


class Replayer:
    """Runs one simulation at a time: each takes a core while it runs."""

    def __init__(self, history: History, *, events_max: int = EVENTS_MAX) -> None:
        self._history = history
        self._events_max = events_max
        self._is_busy = False

    async def replay(self, org: Org, budget: Budget, within: PastRange) -> Replay:
        """Return what `budget` would have done with the calls of a range.

        Raises:
            Unavailable: Another simulation is running.
        """
        if self._is_busy:
            raise Unavailable("another simulation is running; send this one again in some seconds")
        self._is_busy = True
        feed = _Feed(self._history, org, within, self._events_max)
        try:
            found = await asyncio.to_thread(
                simulated, budget, feed.spends(asyncio.get_running_loop()), names_of
            )
        finally:
            feed.stopped.set()
            self._is_busy = False
        return Replay(found, feed.events_read, feed.read_until)


class _Feed:
    """Gives a thread one call after the other, read page by page on the loop."""

    def __init__(self, history: History, org: Org, within: PastRange, events_max: int) -> None:
        self._history = history
        self._org = org
        self._within = within
        self._events_max = events_max
        self.stopped = threading.Event()
        self.events_read = 0
        self.read_until: int | None = None

    def spends(self, loop: asyncio.AbstractEventLoop) -> Iterator[Spend]:
        """Yield the calls; ends early once `stopped` is set, because nobody waits for the answer."""
        after: PastPlace | None = None
        while not self.stopped.is_set():
            most = min(PAGE_EVENTS, self._events_max - self.events_read)
            asked = self._history.page(self._org, self._within, after, most + 1)
            found = asyncio.run_coroutine_threadsafe(asked, loop).result()
            page = found[:most]
            yield from page
            self.events_read += len(page)
            if len(found) <= most:
                return
            after = PastPlace(page[-1].occurred_at, page[-1].key)
            if self.events_read >= self._events_max:
                self.read_until = after.occurred_at
                return
