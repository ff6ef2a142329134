"""Give unpriced events the price that is known now, by new entries.

    unpriced events, a slice  →  what stands for each  →  price  →  reversal and new entry

An event is priced as it was captured: by its own time, tier, billing and reported cost, with
the prices of today. What is priced already is never looked at. Each slice is a transaction
that finds out anew what stands, so a reprice may be broken off anywhere, run twice at once,
or begun again: an event that got its price has left the list, and no other one changes.

Not here: the list of what is unpriced (`storage`), prices (`pricing`).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from bursar.budgets.batch import Corrected
from bursar.core.audit import AuditEntry
from bursar.core.errors import AmountOverflow, InvalidInput
from bursar.core.ids import Org
from bursar.core.time import Clock
from bursar.core.usage import Billing, Price, Subject, UsageEvent
from bursar.ingestion.amounts import amounts_of_row
from bursar.ingestion.ports import PriceBooks, Standing, Store, Transaction, UnitOfWork
from bursar.ingestion.spending import NO_SPENDING, Spending
from bursar.ledger.posting import Correction, correct
from bursar.ledger.rows import FLAG_CLOCK_SUSPECT, FLAG_TIME_STAMPED, EntryRow, counts_of, flags_of

SLICE_EVENTS = 100
"""Events a transaction looks at while nobody else may write: 15 ms where all get a price (2 cores)."""

EVENTS_MAX = 50_000
"""Events one call looks at; a longer list is gone through in several calls."""

REASON = "reprice"
"""What the entries say of why they were made."""

_KEY_BYTES = 16
_NUMBER_BYTES = 8


class Place(NamedTuple):
    """An unpriced event's place in the order in which they are gone through."""

    model: int
    occurred_at: int
    key: bytes


BEGINNING = Place(-1, 0, b"")


class UnpricedReader(Protocol):
    """What a storage engine says of unpriced events."""

    async def places(
        self, org: Org, *, model: str | None, provider: str | None, after: Place, limit: int
    ) -> Sequence[Place]:
        """Return the next unpriced events after a place, of one model or provider if it is named.

        Names are as sent; a provider that was not sent is the one the model was taken for.
        """
        ...


class RepriceQuery(NamedTuple):
    """Which unpriced events to go through, and for whom.

    Attributes:
        model, provider: Only events that name these; None for all.
        after: Where an earlier call left off.
        dry_run: Find out what would happen, and change nothing.
        actor: Who asked, for the audit log.
    """

    org: Org
    actor: str
    model: str | None = None
    provider: str | None = None
    after: Place = BEGINNING
    dry_run: bool = False


class Repriced(NamedTuple):
    """What became of the events of a call, or of a slice of it.

    Attributes:
        events: How many unpriced ones were looked at.
        repriced: How many have a cost now.
        unpriced: How many still have none.
        refused: How many have a price but cannot be posted, as a total would leave 64 bits.
        added_nusd: What was added to the ledger's cost.
        after: Where the next call goes on; None when the list was gone through.
    """

    events: int = 0
    repriced: int = 0
    unpriced: int = 0
    refused: int = 0
    added_nusd: int = 0
    after: Place | None = None

    def plus(self, other: "Repriced") -> "Repriced":
        """Return the sums of two slices, the second one later."""
        return Repriced(
            self.events + other.events,
            self.repriced + other.repriced,
            self.unpriced + other.unpriced,
            self.refused + other.refused,
            self.added_nusd + other.added_nusd,
        )


class Repricer:
    """Prices what is unpriced, for all organisations of one process."""

    def __init__(
        self,
        store: Store,
        unpriced: UnpricedReader,
        books: PriceBooks,
        clock: Clock,
        spending: Spending = NO_SPENDING,
    ) -> None:
        self._store = store
        self._spending = spending
        self._unpriced = unpriced
        self._books = books
        self._clock = clock

    async def reprice(self, query: RepriceQuery, *, events_max: int = EVENTS_MAX) -> Repriced:
        """Go through the unpriced events that `query` names, at most about `events_max` of them.

        Each slice is durable when the next one begins. Other tasks run between slices.

        Raises:
            StorageFull: The disk is full; slices done before it stay.
        """
        done, after = Repriced(), query.after
        while done.events < events_max:
            places = await self._unpriced.places(
                query.org, model=query.model, provider=query.provider, after=after, limit=SLICE_EVENTS
            )
            if not places:
                return done
            done = done.plus(await self._slice(query, places))
            after = places[-1]
            await asyncio.sleep(0)
        return done._replace(after=after)

    async def _slice(self, query: RepriceQuery, places: Sequence[Place]) -> Repriced:
        """Do one slice in one transaction; where a total is too large, event by event."""
        try:
            return await self._store.transact(partial(self._whole, query, places))
        except AmountOverflow:
            return await self._store.transact(partial(self._singly, query, places))

    async def _whole(
        self, query: RepriceQuery, places: Sequence[Place], transaction: Transaction
    ) -> Repriced:
        """Price the events at `places`, and post what got a price as one batch."""
        unit = transaction.unit(query.org)
        pricer = await self._books.of(query.org)
        standing = await _unpriced_at(unit, places)
        prices = [pricer.price(event_of(one)) for one in standing]
        found = [(one, to) for one, to in zip(standing, prices, strict=True) if to.cost_nusd is not None]
        if found and not query.dry_run:
            corrections = await _post(unit, query.actor, found, now=self._clock())
            await self._spending.corrected(unit, corrections)
        added_nusd = sum(price.cost_nusd or 0 for _, price in found)
        return Repriced(len(standing), len(found), len(standing) - len(found), 0, added_nusd)

    async def _singly(
        self, query: RepriceQuery, places: Sequence[Place], transaction: Transaction
    ) -> Repriced:
        """Do each event in a savepoint of its own; leave those unpriced that cannot be posted."""
        done = Repriced()
        for place in places:
            try:
                async with transaction.savepoint():
                    done = done.plus(await self._whole(query, [place], transaction))
            except AmountOverflow:
                done = done.plus(Repriced(events=1, refused=1))
        return done


async def _unpriced_at(unit: UnitOfWork, places: Sequence[Place]) -> list[Standing]:
    """Return what stands at `places` and still has no cost: another task may have been there."""
    standings = await unit.ledger.standings([place.key for place in places])
    standing = [standings[place.key] for place in places if place.key in standings]
    return [one for one in standing if one.row.cost_nusd is None]


async def _post(
    unit: UnitOfWork, actor: str, found: Sequence[tuple[Standing, Price]], *, now: int
) -> list[Corrected]:
    """Reverse what stands, post the same with its price, close the batch; return what changed."""
    batch = await unit.ledger.next_batch()
    cards = await unit.directory.cards([price for _, price in found])
    corrections = [
        _correction(standing, priced_row(standing, price, card=card, batch=batch))
        for (standing, price), card in zip(found, cards, strict=True)
    ]
    rollups = correct(corrections)
    revisions = [standing.revision for standing, _ in found]
    await unit.ledger.append_corrections(
        corrections, rollups, batch=batch, revisions=revisions, reason=REASON
    )
    await unit.ledger.close_batch(batch, at=now, hours=rollups.hours, events=0, entries=2 * len(found))
    details = {"events": len(found), "added_nusd": sum(price.cost_nusd or 0 for _, price in found)}
    entry = AuditEntry(at=now, actor=actor, action="event.reprice", target=f"batch:{batch}", details=details)
    await unit.record(entry)
    return [
        Corrected(row.key, row.hold, amounts_of_row(row), amounts_of_row(one.posted_row))
        for row, one in zip((standing.row for standing, _ in found), corrections, strict=True)
    ]


def _correction(standing: Standing, row: EntryRow) -> Correction:
    run = (standing.run, standing.parent_run)
    return Correction(standing.row, row, reversed_run=run, posted_run=run, corrects=standing.corrects)


def priced_row(standing: Standing, price: Price, *, card: int, batch: int) -> EntryRow:
    """Return the row that stands, with `price` in place of none and nothing else changed."""
    flags = flags_of(event_of(standing), price.cost_nusd)
    return standing.row._replace(batch=batch, card=card, computed_nusd=price.computed_nusd, flags=flags)


def event_of(standing: Standing) -> UsageEvent:
    """Return the event of a row, as far as its price and its flags depend on it."""
    row = standing.row
    return UsageEvent(
        key=row.key,
        occurred_at=row.occurred_at,
        subject=Subject(*standing.subject),
        source=row.source,
        duration_ms=row.duration_ms,
        reported_nusd=row.reported_nusd,
        is_error=row.is_error,
        billing=Billing(row.billing),
        service_tier=row.service_tier,
        time_stamped=bool(row.flags & FLAG_TIME_STAMPED),
        clock_suspect=bool(row.flags & FLAG_CLOCK_SUSPECT),
        **counts_of(row),  # type: ignore[arg-type] # named as the counts of an event are
    )


def text_from_place(place: Place) -> str:
    """Return a place as a cursor for callers."""
    numbers = (place.model, place.occurred_at)
    return b"".join(n.to_bytes(_NUMBER_BYTES, "big", signed=True) for n in numbers).hex() + place.key.hex()


def place_from_text(text: str) -> Place:
    """Return the place that a cursor names.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        packed = b""
    if len(packed) != 2 * _NUMBER_BYTES + _KEY_BYTES:
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    model, occurred_at = (
        int.from_bytes(packed[start : start + _NUMBER_BYTES], "big", signed=True)
        for start in (0, _NUMBER_BYTES)
    )
    return Place(model, occurred_at, packed[2 * _NUMBER_BYTES :])
