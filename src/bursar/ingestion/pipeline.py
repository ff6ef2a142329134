"""The whole way of a batch, from captured events to a posted ledger, on one screen.

    holds lend names → claim keys → intern names → price → post entries and roll-ups
    → close the batch → count in budgets

`process_batch` is the only function that sees it all. It runs inside a transaction that
somebody else commits; nothing is acknowledged before that.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from bursar.budgets.batch import NOTHING_SEEN, NOTHING_SETTLED, Corrected, Priced, Seen, Settlements
from bursar.core.usage import Price, UsageEvent
from bursar.ingestion.amounts import amounts_of_row
from bursar.ingestion.ports import Pricer, Standing, UnitOfWork
from bursar.ingestion.spending import NO_SPENDING, Spending
from bursar.ledger.posting import Correction, correct, media_text, post, revised_row
from bursar.ledger.rows import FLAG_ERROR, FLAG_TIME_STAMPED, EntryRow


class BatchResult(NamedTuple):
    """What became of a batch, by position in it.

    Attributes:
        batch: Its number in commit order; None when it changed nothing.
        recorded: How many events count now, duplicates included.
        duplicates: Positions whose key and content were there already.
        conflicts: Positions whose key was there with other content; nothing changed.
        unpriced: Positions of the fresh events that have no price.
        settled: What events that name a hold did to it, by position; an error where such an
            event was not recorded.
        seen: How the senders stand with their budgets.
    """

    batch: int | None
    recorded: int
    duplicates: Sequence[int]
    conflicts: Sequence[int]
    unpriced: Sequence[int]
    settled: Settlements = NOTHING_SETTLED
    seen: Seen = NOTHING_SEEN


async def process_batch(
    unit: UnitOfWork,
    events: Sequence[UsageEvent],
    pricer: Pricer,
    *,
    now: int,
    spending: Spending = NO_SPENDING,
) -> BatchResult:
    """Post `events` of one organisation: each key once, for ever.

    Args:
        unit: The organisation's share of an open transaction.
        events: At most one slice (1,000); may hold duplicates of each other.
        pricer: The organisation's prices.
        now: Server time, microseconds UTC; stamps the batch, never an event.
        spending: What budgets do with it, in the same transaction.

    Raises:
        AmountOverflow: A sum would leave 64 bits. The caller rolls back and sends the
            events one by one, so that only the one that cannot be counted is set aside.
    """
    events, refused = await spending.bound(unit, events)
    if refused:
        places = [place for place in range(len(events)) if place not in refused]
        kept = [events[place] for place in places]
        return _spread(await _post_batch(unit, kept, pricer, spending, now), places, refused)
    return await _post_batch(unit, events, pricer, spending, now)


async def _post_batch(
    unit: UnitOfWork, events: Sequence[UsageEvent], pricer: Pricer, spending: Spending, now: int
) -> BatchResult:
    claim = await unit.ledger.claim(events)
    fresh = events if len(claim.fresh) == len(events) else [events[index] for index in claim.fresh]
    batch = await unit.ledger.next_batch()
    posting = None
    prices: list[Price] = []
    unpriced: Sequence[int] = ()
    if fresh:
        refs = await unit.directory.resolve(fresh)
        prices = list(map(pricer.price, fresh))
        cards = await unit.directory.cards(prices)
        posting = post(unit.org, batch, fresh, zip(refs, prices, cards, strict=True))
        await unit.ledger.append(posting, [event for event in fresh if event.prompt is not None])
        if posting.unpriced:
            unpriced = [i for i, price in zip(claim.fresh, prices, strict=True) if price.cost_nusd is None]
    known = await _post_known(unit, events, claim.known, pricer, batch)
    if fresh or known.revised:
        hours = {*(posting.rollups.hours if posting else ()), *known.hours}
        await unit.ledger.close_batch(
            batch, at=now, hours=sorted(hours), events=len(fresh), entries=2 * len(known.revised)
        )
    counted = _without_holds(events, known.conflicts)
    settled, seen = await spending.spent(unit, counted, _priced(claim.fresh, fresh, prices))
    if known.revised:
        # After what is fresh: a batch may bring a call and its revision.
        await spending.corrected(unit, known.revised)
    recorded = len(events) - len(known.conflicts)
    changed = batch if fresh or known.revised else None
    return BatchResult(changed, recorded, known.duplicates, known.conflicts, unpriced, settled, seen)


def _without_holds(events: Sequence[UsageEvent], conflicts: Sequence[int]) -> Sequence[UsageEvent]:
    """Return the events; one in conflict with what stands names no hold any more: it changes nothing."""
    if not conflicts:
        return events
    changed = list(events)
    for index in conflicts:
        changed[index] = msgspec.structs.replace(changed[index], hold=None)
    return changed


def _priced(
    positions: Sequence[int], events: Sequence[UsageEvent], prices: Sequence[Price]
) -> Iterable[Priced]:
    """Yield the fresh events with their costs; nothing is made where nobody asks."""
    for position, event, price in zip(positions, events, prices, strict=True):
        yield Priced(position, event, price.cost_nusd)


def _spread(result: BatchResult, places: Sequence[int], refused: Settlements) -> BatchResult:
    """Return the result of the events at `places`, by their positions in the whole batch."""
    settled = {places[index]: answer for index, answer in result.settled.items()}
    return result._replace(
        duplicates=[places[index] for index in result.duplicates],
        conflicts=[places[index] for index in result.conflicts],
        unpriced=[places[index] for index in result.unpriced],
        settled={**settled, **refused},
    )


class _Known(NamedTuple):
    """What became of the events whose key was there already."""

    duplicates: list[int]
    conflicts: list[int]
    revised: list[Corrected]
    hours: set[int]


async def _post_known(
    unit: UnitOfWork, events: Sequence[UsageEvent], positions: Sequence[int], pricer: Pricer, batch: int
) -> _Known:
    """Sort known keys into duplicates, conflicts and revisions; post the revisions.

    A key that names another hold than the one it settled is a conflict: one call pays off one hold.
    """
    known = _Known([], [], [], set())
    if not positions:
        return known
    standings = dict(await unit.ledger.standings({events[index].key for index in positions}))
    for index in positions:
        event = events[index]
        # What was revised just now is read anew.
        standing = standings.pop(event.key, None) or await unit.ledger.standing(event.key)
        if standing is None:
            raise AssertionError("a known key must have an entry")
        if event.hold is not None and standing.row.hold not in {None, event.hold}:
            known.conflicts.append(index)
        elif event.revision > standing.revision:
            correction, hours = await _revise(unit, event, standing, pricer, batch)
            known.revised.append(
                Corrected(
                    event.key,
                    standing.row.hold,
                    amounts_of_row(correction.reversed_row),
                    amounts_of_row(correction.posted_row),
                )
            )
            known.hours.update(hours)
        elif event.revision < standing.revision or _same_content(event, standing):
            known.duplicates.append(index)
        else:
            known.conflicts.append(index)
    return known


async def _revise(
    unit: UnitOfWork, event: UsageEvent, standing: Standing, pricer: Pricer, batch: int
) -> tuple[Correction, list[int]]:
    """Post a higher revision: the old effect reversed in full, the new one beside it."""
    if event.time_stamped:
        event = _at(event, standing.row.occurred_at)
    # What paid for a call stays what paid for it; its postings are found by that.
    event = msgspec.structs.replace(event, hold=standing.row.hold)
    price = pricer.price(event)
    refs = (await unit.directory.resolve([event]))[0]
    card = (await unit.directory.cards([price]))[0]
    correction = Correction(
        reversed_row=standing.row,
        posted_row=revised_row(unit.org, batch, event, (refs, price, card)),
        reversed_run=(standing.run, standing.parent_run),
        posted_run=(event.run, event.parent_run),
        corrects=standing.corrects,
    )
    rollups = correct([correction])
    await unit.ledger.append_corrections(
        [correction], rollups, batch=batch, revisions=[event.revision], reason="revision"
    )
    return correction, rollups.hours


def _at(event: UsageEvent, occurred_at: int) -> UsageEvent:
    """Return `event` at the time that was stamped for its key the first time."""
    return msgspec.structs.replace(event, occurred_at=occurred_at)


def _same_content(event: UsageEvent, standing: Standing) -> bool:
    """Whether a repeated key says the same: subject, counts, cost, status, caller's time."""
    row: EntryRow = standing.row
    return (
        event.subject[:3] == standing.subject
        and _counts(event) == row[12:18]
        and media_text(event) == row.media
        and event.reported_nusd == row.reported_nusd
        and event.is_error == bool(row.flags & FLAG_ERROR)
        and (
            event.occurred_at == row.occurred_at
            or (event.time_stamped and bool(row.flags & FLAG_TIME_STAMPED))
        )
    )


def _counts(event: UsageEvent) -> tuple[int, ...]:
    """Return the token counts in the row's order."""
    return (
        event.input_tokens,
        event.output_tokens,
        event.reasoning_tokens,
        event.cache_read_tokens,
        event.cache_write_5m_tokens,
        event.cache_write_1h_tokens,
    )
