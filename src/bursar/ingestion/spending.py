"""What ingestion asks of budgets for each batch: a port, and the null one.

    process_batch → Spending.bound (before keys are claimed) → Spending.spent (priced, not yet committed)

Both run inside the batch's own transaction, so an event and what it does to a budget are one
commit. The real one is `enforcement.spending`; rooms on one floor do not know each other.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from bursar.budgets.batch import NOTHING_SEEN, NOTHING_SETTLED, Bound, Corrected, Effects, Priced
from bursar.budgets.ports import SpendingUnit
from bursar.core.usage import UsageEvent


class Spending(Protocol):
    """What budgets do with a batch."""

    async def bound(self, unit: SpendingUnit, events: Sequence[UsageEvent]) -> Bound:
        """Give events that name a hold its names and key; say which may not be recorded."""
        ...

    async def spent(
        self, unit: SpendingUnit, events: Sequence[UsageEvent], fresh: Iterable[Priced]
    ) -> Effects:
        """Count what is fresh: settle holds, post the rest; say how the senders stand.

        Raises:
            AmountOverflow: A window cannot count so much.
        """
        ...

    async def corrected(self, unit: SpendingUnit, corrections: Sequence[Corrected]) -> None:
        """Replace what events counted as, in the windows they were posted to.

        Raises:
            AmountOverflow: A window cannot count so much.
        """
        ...


class NoSpending:
    """For ledgers without budgets: it counts nothing."""

    async def bound(self, unit: SpendingUnit, events: Sequence[UsageEvent]) -> Bound:
        """Leave the batch as it is."""
        del unit
        return Bound(events)

    async def spent(
        self, unit: SpendingUnit, events: Sequence[UsageEvent], fresh: Iterable[Priced]
    ) -> Effects:
        """Say nothing."""
        del unit, events, fresh
        return Effects(NOTHING_SETTLED, NOTHING_SEEN)

    async def corrected(self, unit: SpendingUnit, corrections: Sequence[Corrected]) -> None:
        """Do nothing."""


NO_SPENDING = NoSpending()
