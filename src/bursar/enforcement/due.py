"""What becomes due by itself: holds lapse, raises end, suspense and windows are over.

    a job each second  →  run_quick (holds, raises)      a job each minute  →  run (everything)

An organisation with nothing due costs one question to storage for all of them. Each commit is small,
so that authorisations wait for a few milliseconds at most. Not here: the rules (`budgets.lifecycle`,
`budgets.limits`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from bursar.budgets.clock import Now
from bursar.core.ids import Org
from bursar.enforcement import changes
from bursar.enforcement.desk import Desk
from bursar.enforcement.ports import Store, Transaction
from bursar.enforcement.questions import Lapse

DUE_MAX = 256
"""Holds and windows that one commit of the jobs ends: a few milliseconds."""

PASSES_MAX = 400
"""Commits of one run of the jobs, of each kind; what is left waits for the next run."""


class Due:
    """Ends what is due, for all organisations of one process.

    Args:
        store: The storage engine.
        desk: Where the ends are decided, among the authorisations.
        now: `DecisionClock.read` of both clocks.
    """

    def __init__(self, store: Store, desk: Desk, now: Callable[[], Now]) -> None:
        self._store = store
        self._desk = desk
        self._now = now

    async def run_quick_everywhere(self) -> None:
        """Let holds lapse and raises end, wherever one is due."""

        async def read(transaction: Transaction) -> Sequence[Org]:
            return await transaction.orgs_due(self._now().trusted)

        for org in await self._store.transact(read):
            await self.run_quick(org)

    async def run_everywhere(self) -> None:
        """Do everything that is due, wherever there are budgets."""

        async def read(transaction: Transaction) -> Sequence[Org]:
            return await transaction.orgs_with_budgets()

        for org in await self._store.transact(read):
            await self.run(org)

    async def run_quick(self, org: Org) -> None:
        """Let the holds lapse and the raises end that are due."""
        for _ in range(PASSES_MAX):
            if await self._lapse(org, await self._due_holds(org)) < DUE_MAX:
                break
            await asyncio.sleep(0)
        for incident_id in await self._due_raises(org):
            await self._desk.change(org, partial(_take_back, incident_id))

    async def run(self, org: Org) -> None:
        """Do everything that is due: beside the quick ones, end suspense and close windows."""
        await self.run_quick(org)
        after = b""
        while ids := await self._suspended(org, after):
            await self._lapse(org, ids)
            after = ids[-1]
        for _ in range(PASSES_MAX):
            if await self._desk.change(org, _close_windows) < DUE_MAX:
                break
            await asyncio.sleep(0)

    async def _due_holds(self, org: Org) -> Sequence[bytes]:
        async def read(transaction: Transaction) -> Sequence[bytes]:
            return await transaction.unit(org).budgets.due_holds(self._now().trusted, DUE_MAX)

        return await self._store.transact(read)

    async def _due_raises(self, org: Org) -> Sequence[bytes]:
        async def read(transaction: Transaction) -> Sequence[bytes]:
            return await transaction.unit(org).budgets.due_raises(self._now().trusted, DUE_MAX)

        return await self._store.transact(read)

    async def _suspended(self, org: Org, after: bytes) -> Sequence[bytes]:
        async def read(transaction: Transaction) -> Sequence[bytes]:
            return await transaction.unit(org).budgets.suspended_holds(after, DUE_MAX)

        return await self._store.transact(read)

    async def _lapse(self, org: Org, ids: Sequence[bytes]) -> int:
        if ids:
            await self._desk.decide_now(org, [Lapse(hold_id) for hold_id in ids])
        return len(ids)


def _take_back(incident_id: bytes, change: changes.Change) -> Awaitable[None]:
    return changes.take_back(change, incident_id)


def _close_windows(change: changes.Change) -> Awaitable[int]:
    return changes.close_windows(change, DUE_MAX)
