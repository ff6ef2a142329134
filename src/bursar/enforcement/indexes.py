"""The active budgets of each organisation as an index, kept from their first use on.

Whoever asks inside a transaction of the writer gets what that transaction would read; whoever
changes budgets drops the index inside the transaction that does so. Not here: which
budgets a call meets (`budgets.matching`).
"""

from collections.abc import Mapping

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


class Indexes:
    """One per process, shared by everything that decides."""

    def __init__(self) -> None:
        self._kept: dict[Org, BudgetIndex] = {}

    async def of(self, org: Org, budgets: BudgetStore) -> BudgetIndex:
        """Return the index of `org`; to be called in a transaction."""
        index = self._kept.get(org)
        if index is None:
            index = self._kept[org] = BudgetIndex(await budgets.active(), names_of)
        return index

    def kept(self, org: Org) -> Mapping[bytes, Terms]:
        """Return the rules of the active budgets as far as they are in memory, to word an answer by."""
        index = self._kept.get(org)
        return {} if index is None else index.terms

    def forget(self, org: Org) -> None:
        """Drop the index of `org`, while the transaction that changes its budgets excludes all others."""
        self._kept.pop(org, None)
