"""What ingestion needs from a storage engine.

All methods are coroutines so that one pipeline serves engines with and without a network
between. An engine without one (SQLite) never suspends inside them, so its transactions
run to the end without another task in between.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeVar

from bursar.budgets.ports import BudgetStore
from bursar.core.audit import AuditEntry
from bursar.core.ids import Org
from bursar.core.usage import Price, UsageEvent
from bursar.ledger.posting import Correction, Posting, RollUps
from bursar.ledger.rows import EntryRow, Refs

Result = TypeVar("Result")


class Claim(NamedTuple):
    """What the ledger already knew of a batch: positions in the batch, each in one list.

    Attributes:
        fresh: Never seen; their keys are now taken by this transaction.
        known: The key was there before, or stands earlier in the same batch.
    """

    fresh: Sequence[int]
    known: Sequence[int]


class Standing(NamedTuple):
    """What stands in the ledger for a key now.

    Attributes:
        row: The last posted effect.
        revision: Its revision.
        corrects: The entry's number, None when the event row is its own entry.
        run, parent_run: The texts of its run.
        subject: Agent, provider and model as sent, for comparing contents.
    """

    row: EntryRow
    revision: int
    corrects: int | None
    run: str
    parent_run: str
    subject: tuple[str, str, str]


class DirectoryWriter(Protocol):
    """Names to row numbers, made on first use within the same transaction."""

    async def resolve(self, events: Sequence[UsageEvent]) -> Sequence[Refs]:
        """Return the row numbers of each event's names, in order."""
        ...

    async def cards(self, prices: Sequence[Price]) -> Sequence[int]:
        """Return the row number of each price's card, 0 for none, storing new cards."""
        ...


class LedgerWriter(Protocol):
    """The append-only side of the ledger, bound to one organisation."""

    async def claim(self, events: Sequence[UsageEvent]) -> Claim:
        """Take the keys of `events` that are new; say which were known."""
        ...

    async def standing(self, key: bytes) -> Standing | None:
        """Return what stands for `key`, None where nothing does."""
        ...

    async def standings(self, keys: Collection[bytes]) -> Mapping[bytes, Standing]:
        """Return what stands for each of the keys that are known."""
        ...

    async def next_batch(self) -> int:
        """Return the number of the batch that this transaction writes."""
        ...

    async def append(self, posting: Posting, prompts: Sequence[UsageEvent]) -> None:
        """Write rows, roll-up deltas and the prompts that came with them."""
        ...

    async def append_corrections(
        self,
        corrections: Sequence[Correction],
        rollups: RollUps,
        *,
        batch: int,
        revisions: Sequence[int],
        reason: str,
    ) -> None:
        """Write each correction as a reversal and a new entry, with the roll-up deltas."""
        ...

    async def close_batch(
        self, batch: int, *, at: int, hours: Sequence[int], events: int, entries: int
    ) -> None:
        """Write the batch's row: commit order, for audit, relays and cursors."""
        ...

    async def quarantine(self, event: UsageEvent, *, at: int, reason: str) -> None:
        """Keep an event that could not be processed, visible and with its reason."""
        ...


class UnitOfWork(Protocol):
    """One organisation's share of one transaction."""

    @property
    def org(self) -> Org:
        """The organisation that every statement is bound to."""
        ...

    @property
    def directory(self) -> DirectoryWriter:
        """Its names."""
        ...

    @property
    def ledger(self) -> LedgerWriter:
        """Its ledger."""
        ...

    @property
    def budgets(self) -> BudgetStore:
        """Its budgets."""
        ...

    async def record(self, entry: AuditEntry) -> None:
        """Append to the organisation's audit log."""
        ...


class Transaction(Protocol):
    """One commit, which may serve several organisations."""

    def unit(self, org: Org) -> UnitOfWork:
        """Return the share of `org`."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what happens inside when it raises, and only that."""
        ...


class Store(Protocol):
    """A storage engine's writing side."""

    @property
    def commits_apart(self) -> bool:
        """Whether organisations do not wait for each other, so that a commit is best one organisation's."""
        ...

    async def transact(
        self, work: Callable[[Transaction], Awaitable[Result]], *, is_large: bool = False
    ) -> Result:
        """Run `work` in one transaction; commit durably before returning its result.

        `is_large` says that the commit is worth letting other tasks run meanwhile. An engine that
        has to undo a transaction for another's sake may run `work` a second time. Several
        organisations are asked for in ascending order.

        Raises:
            StorageFull: The disk is full; nothing was written.
            Unavailable: The engine does not answer; nothing was written, or its answer to
                the commit was lost: a repeat with the same keys finds out.
        """
        ...


class Pricer(Protocol):
    """Prices of one organisation (`pricing.PriceBook`)."""

    def price(self, event: UsageEvent) -> Price:
        """Return what `event` costs."""
        ...


class PriceBooks(Protocol):
    """The price books of all organisations, kept current by whoever changes prices."""

    async def of(self, org: Org) -> Pricer:
        """Return the prices of `org` as they are now."""
        ...
