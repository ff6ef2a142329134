"""Where captured events are accepted: committed, then answered, never the other way round.

Requests of many events run in slices of their own. Small ones (below `coalesce_events_max`)
wait for each other for no longer than the event loop's current turn: all that are ready
go through one `process_batch` per organisation and share one commit.

When a shared transaction fails, its requests are committed one by one, so that nobody fails
for a neighbour's sake. An event that cannot be posted at all (a total beyond 64 bits) makes
its request go event by event, each in a savepoint, and is set aside in quarantine with its
reason.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from bursar.budgets.batch import NOTHING_SEEN, NOTHING_SETTLED, Seen, Settlements
from bursar.core.errors import AmountOverflow, AppError, Unavailable
from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.ingestion.pipeline import BatchResult, process_batch
from bursar.ingestion.ports import PriceBooks, Store, Transaction
from bursar.ingestion.spending import NO_SPENDING, Spending

WAITING_MAX = 10_000
"""Small requests that may wait for a commit: over a second's work; beyond, callers come again."""

SLICE_EVENTS = 1_000
"""Rows a transaction writes at most: about 10 ms in which the loop serves nobody else."""


class Receipt(NamedTuple):
    """What became of one request's events, by position in it.

    Attributes:
        batch: Number of the last batch it wrote; None when it changed nothing.
        recorded: How many count now, duplicates included.
        duplicates: Positions that were there already with the same content.
        conflicts: Positions whose key was there with other content; nothing changed.
        quarantined: Positions that could not be posted and are kept aside.
        unpriced: How many of the fresh ones have no price.
        settled: What those that name a hold did to it, by position; an error where one was
            not recorded for its hold's sake.
        seen: How the senders stand with their budgets.
    """

    batch: int | None
    recorded: int
    duplicates: Sequence[int] = ()
    conflicts: Sequence[int] = ()
    quarantined: Sequence[int] = ()
    unpriced: int = 0
    settled: Settlements = NOTHING_SETTLED
    seen: Seen = NOTHING_SEEN


class _Waiting(NamedTuple):
    """A small request and where its receipt is awaited."""

    org: Org
    events: Sequence[UsageEvent]
    receipt: "asyncio.Future[Receipt]"


class Intake:
    """Accepts the events of all organisations of one process.

    `on_receipt` sees each request's receipt before its caller does: what metrics count.
    """

    def __init__(
        self,
        store: Store,
        books: PriceBooks,
        clock: Callable[[], int],
        *,
        coalesce_events_max: int,
        spending: Spending = NO_SPENDING,
        on_receipt: Callable[[Receipt], None] = lambda _receipt: None,
    ) -> None:
        self._store = store
        self._spending = spending
        self._books = books
        self._clock = clock
        self._coalesce_events_max = coalesce_events_max
        self._on_receipt = on_receipt
        self._queues: dict[Org | None, list[_Waiting]] = {}
        self._drains: dict[Org | None, asyncio.Task[None]] = {}
        self._waiting_count = 0

    async def record(self, org: Org, events: Sequence[UsageEvent]) -> Receipt:
        """Record `events`; when this returns they are durable.

        Raises:
            StorageFull: The disk is full. Slices committed before it stay; a repeat of the
                request finds them as duplicates.
            Unavailable: Too many small requests wait already; nothing was recorded.
        """
        if not events:
            return Receipt(None, 0)
        if len(events) >= self._coalesce_events_max:
            return await self._record_large(org, events)
        if self._waiting_count >= WAITING_MAX:
            raise Unavailable("too many requests wait for their commit; send this one again")
        loop = asyncio.get_running_loop()
        receipt: asyncio.Future[Receipt] = loop.create_future()
        place = org if self._store.commits_apart else None
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = []
            self._drains[place] = loop.create_task(self._drain_waiting(place, queue))
        queue.append(_Waiting(org, events, receipt))
        self._waiting_count += 1
        return await receipt

    async def _record_large(self, org: Org, events: Sequence[UsageEvent]) -> Receipt:
        """Record in slices, letting the loop serve others between them."""
        receipts: list[Receipt] = []
        for start in range(0, len(events), SLICE_EVENTS):
            part = events if len(events) <= SLICE_EVENTS else events[start : start + SLICE_EVENTS]
            receipts.append(_shifted(await self._record_slice(org, part), start))
            if start + SLICE_EVENTS < len(events):
                await asyncio.sleep(0)
        receipt = receipts[0] if len(receipts) == 1 else _joined(receipts)
        self._on_receipt(receipt)
        return receipt

    async def _record_slice(self, org: Org, events: Sequence[UsageEvent]) -> Receipt:
        async def whole(transaction: Transaction) -> Receipt:
            return _receipt(await self._process(transaction, org, events))

        async def one_by_one(transaction: Transaction) -> Receipt:
            return await self._record_singly(transaction, org, events)

        try:
            return await self._store.transact(whole, is_large=True)
        except AmountOverflow:
            return await self._store.transact(one_by_one)

    async def _process(self, transaction: Transaction, org: Org, events: Sequence[UsageEvent]) -> BatchResult:
        book = await self._books.of(org)
        return await process_batch(
            transaction.unit(org), events, book, now=self._clock(), spending=self._spending
        )

    async def _record_singly(
        self, transaction: Transaction, org: Org, events: Sequence[UsageEvent]
    ) -> Receipt:
        """Post each event in a savepoint of its own; set aside the ones that cannot be."""
        receipts: list[Receipt] = []
        for index, event in enumerate(events):
            try:
                async with transaction.savepoint():
                    receipt = _receipt(await self._process(transaction, org, [event]))
            except AmountOverflow as error:
                ledger = transaction.unit(org).ledger
                await ledger.quarantine(event, at=self._clock(), reason=error.detail)
                receipt = Receipt(None, 0, quarantined=(0,))
            receipts.append(_shifted(receipt, index))
        return _joined(receipts)

    async def _drain_waiting(self, place: Org | None, queue: list[_Waiting]) -> None:
        """Commit what waits, group by group, until nothing waits."""
        # One turn of the loop: requests that are ready now join the first group.
        await asyncio.sleep(0)
        while queue:
            group = self._take_group(queue)
            try:
                receipts = await self._commit_group(group)
            except Unavailable as error:
                for waiting in group:
                    _fail(waiting, error)
            except Exception:  # noqa: BLE001 - one request's fault; each then meets its own
                await self._commit_apart(group)
            else:
                for waiting, receipt in zip(group, receipts, strict=True):
                    self._answer(waiting, receipt)
            await asyncio.sleep(0)
        del self._queues[place], self._drains[place]

    async def _commit_apart(self, group: list[_Waiting]) -> None:
        """Commit each request of a failed group by itself."""
        for waiting in group:
            try:
                receipt = await self._record_slice(waiting.org, waiting.events)
            except Exception as error:  # noqa: BLE001 - handed to the one who waits for it
                _fail(waiting, error)
            else:
                self._answer(waiting, receipt)

    def _answer(self, waiting: _Waiting, receipt: Receipt) -> None:
        self._on_receipt(receipt)
        if not waiting.receipt.done():
            waiting.receipt.set_result(receipt)

    def _take_group(self, queue: list[_Waiting]) -> list[_Waiting]:
        """Return the oldest requests that fit one commit together."""
        room = self._coalesce_events_max
        count = 0
        for waiting in queue:
            room -= len(waiting.events)
            if room < 0:
                break
            count += 1
        group = queue[:count]
        del queue[:count]
        self._waiting_count -= count
        return group

    async def _commit_group(self, group: list[_Waiting]) -> list[Receipt]:
        async def together(transaction: Transaction) -> list[Receipt]:
            return await self._record_together(transaction, group)

        return await self._store.transact(together)

    async def _record_together(self, transaction: Transaction, group: list[_Waiting]) -> list[Receipt]:
        """Process each organisation's share of the group as one batch; split the results."""
        shares: dict[Org, list[int]] = {}
        for index, waiting in enumerate(group):
            shares.setdefault(waiting.org, []).append(index)
        receipts: dict[int, Receipt] = {}
        for org, indexes in sorted(shares.items()):
            events = [event for index in indexes for event in group[index].events]
            result = await self._process(transaction, org, events)
            start = 0
            for index in indexes:
                size = len(group[index].events)
                receipts[index] = _part(result, start, start + size)
                start += size
        return [receipts[index] for index in range(len(group))]


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.receipt.done():
        waiting.receipt.set_exception(error)


def _receipt(result: BatchResult) -> Receipt:
    return Receipt(
        result.batch,
        result.recorded,
        result.duplicates,
        result.conflicts,
        (),
        len(result.unpriced),
        result.settled,
        result.seen,
    )


def _part(result: BatchResult, start: int, end: int) -> Receipt:
    """Return the receipt of the events from `start` to `end` of a shared batch."""
    unpriced = sum(start <= index < end for index in result.unpriced)
    if not (result.duplicates or result.conflicts or result.settled):
        return Receipt(result.batch, end - start, unpriced=unpriced, seen=result.seen)
    duplicates = [index - start for index in result.duplicates if start <= index < end]
    conflicts = [index - start for index in result.conflicts if start <= index < end]
    settled = {index - start: answer for index, answer in result.settled.items() if start <= index < end}
    refused = sum(isinstance(answer, AppError) for answer in settled.values())
    recorded = end - start - len(conflicts) - refused
    return Receipt(result.batch, recorded, duplicates, conflicts, (), unpriced, settled, result.seen)


def _shifted(receipt: Receipt, by: int) -> Receipt:
    """Return the receipt with its positions moved from a slice's to the request's."""
    if not by:
        return receipt
    return receipt._replace(
        duplicates=[index + by for index in receipt.duplicates],
        conflicts=[index + by for index in receipt.conflicts],
        quarantined=[index + by for index in receipt.quarantined],
        settled={index + by: answer for index, answer in receipt.settled.items()},
    )


def _joined(receipts: Sequence[Receipt]) -> Receipt:
    """Return one receipt for several parts of a request, their positions already moved."""
    batches = [receipt.batch for receipt in receipts if receipt.batch is not None]
    return Receipt(
        max(batches, default=None),
        sum(receipt.recorded for receipt in receipts),
        [index for receipt in receipts for index in receipt.duplicates],
        [index for receipt in receipts for index in receipt.conflicts],
        [index for receipt in receipts for index in receipt.quarantined],
        sum(receipt.unpriced for receipt in receipts),
        {index: answer for receipt in receipts for index, answer in receipt.settled.items()},
        reduce(Seen.joined, (receipt.seen for receipt in receipts), NOTHING_SEEN),
    )
