"""What enforcement needs from a storage engine: transactions, and units of work within them.

The budgets within a unit are `budgets.ports.BudgetStore`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from bursar.budgets.ports import BudgetStore
from bursar.core.audit import AuditEntry
from bursar.core.ids import Org
from bursar.enforcement.alert_configs import ConfigStore

Result = TypeVar("Result")


class UnitOfWork(Protocol):
    """One organisation's share of one transaction."""

    @property
    def budgets(self) -> BudgetStore:
        """Its budgets."""
        ...

    @property
    def configs(self) -> ConfigStore:
        """Its alert configs, and what its clients asked for."""
        ...

    async def record(self, entry: AuditEntry) -> None:
        """Append to the organisation's audit log."""
        ...


class Transaction(Protocol):
    """One commit, which may serve several organisations."""

    def unit(self, org: Org) -> UnitOfWork:
        """Return the share of `org`."""
        ...

    async def orgs_due(self, at: int) -> Sequence[Org]:
        """Return the organisations with a hold or a raise that is over at `at`."""
        ...

    async def orgs_with_budgets(self) -> Sequence[Org]:
        """Return the organisations that have budgets, or windows that wind down."""
        ...


class Store(Protocol):
    """A storage engine's writing side."""

    @property
    def commits_apart(self) -> bool:
        """Whether organisations do not wait for each other, so that a commit is best one organisation's."""
        ...

    @property
    def together_max(self) -> int:
        """How many questions one commit decides at most."""
        ...

    async def transact(
        self, work: Callable[[Transaction], Awaitable[Result]], *, is_large: bool = False
    ) -> Result:
        """Run `work` in one transaction; commit durably before returning its result.

        An engine that has to undo a transaction for another's sake may run `work` a second time.
        Several organisations are asked for in ascending order.

        Raises:
            StorageFull: The disk is full; nothing was written.
            Unavailable: The engine does not answer; nothing was written, or its answer to
                the commit was lost: a repeat with the same keys finds out.
        """
        ...
