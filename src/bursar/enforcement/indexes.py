"""The active budgets of each organisation as an index, kept as long as storage says they are the latest.

    a transaction  →  of  →  BudgetIndex  →  decisions

Storage has a stamp that changes with every change of budgets, within the transaction that makes
it: another process's change is seen with the next commit, and one that is undone leaves nothing behind.
Not here: which budgets a call meets (`budgets.matching`).
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from bursar.budgets.budget import Terms
from bursar.budgets.matching import BudgetIndex, Names
from bursar.budgets.ports import BudgetStore
from bursar.core.ids import Org
from bursar.pricing import aliases


def names_of(provider: str, model: str) -> Names:
    """Return the names as sent, those of the price list, and the bare ones behind a route.

    A budget of `gpt-4o` counts `openai/gpt-4o`, whoever sells it.
    """
    models = aliases.names_of(provider, model)
    providers = {provider.strip().lower(), aliases.canonical(provider, model).provider}
    return Names(models | {name.rpartition("/")[2] for name in models}, frozenset(providers))


WORDED_BY_S = 0.8
"""How long ago an index must have been the latest to word an answer by it; decisions ask each time."""


class _Kept(NamedTuple):
    stamp: bytes
    active: BudgetIndex


class Indexes:
    """One per process, shared by everything that decides."""

    def __init__(self) -> None:
        self._kept: dict[Org, _Kept] = {}
        self._checked_at: dict[Org, float] = {}

    async def of(self, org: Org, budgets: BudgetStore) -> BudgetIndex:
        """Return the index of `org` as this transaction would read it."""
        asked_at = time.monotonic()
        stamp = await budgets.stamp()
        self._checked_at[org] = asked_at
        kept = self._kept.get(org)
        if kept is None or kept.stamp != stamp:
            kept = self._kept[org] = _Kept(stamp, BudgetIndex(await budgets.active(), names_of))
        return kept.active

    async def keep(self, org: Org, budgets: BudgetStore, active: BudgetIndex) -> None:
        """Take an index to which a transaction has added what it stored: it need not be read anew.

        If that is undone its stamp is gone with it, and the index is never used.
        """
        self._kept[org] = _Kept(await budgets.stamp(), active)

    def kept(self, org: Org) -> Mapping[bytes, Terms]:
        """Return the rules of the active budgets as far as they are in memory, to word an answer by.

        Nothing when the last decision was long ago: another process may have changed them.
        """
        kept = self._kept.get(org)
        if kept is None or time.monotonic() - self._checked_at.get(org, 0) > WORDED_BY_S:
            return {}
        return kept.active.terms
