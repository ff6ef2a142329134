"""Leases: a slice of a budget moved into `held` before its client may spend it.

    LeaseRequest + Book  →  acquire           →  Granted | Refused | Stopped
    Spend + Book         →  spend_from_lease  →  Outcome, for each call of the client's journal
    Report + Book        →  report            →  Reported (rest, renewal, recall, stop)

A lease is a hold of kind `lease`, so that the promise of a hold covers it without a new
argument. The client spends locally, by its own monotonic clock, and reports; each call it
reports moves from `held` to `settled`. It stands for calls of exactly the names it was
asked for. The server's end is later than the client's; what is unreported then lapses
like a hold (`lifecycle.expire`), on hard budgets into suspense.

Amounts are in each budget's unit, times microseconds. Not here: the client, and which calls
are new (`storage`, unique key).
"""

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import DEPTH, NOTHING, Amounts
from bursar.budgets.authorise import Place, cap_of, note_crossing, places_of, refusal_of, stop_of
from bursar.budgets.book import Book, Effect, Notice, Occasion
from bursar.budgets.budget import Terms
from bursar.budgets.clock import Now
from bursar.budgets.guards import Cause, counted
from bursar.budgets.hold import (
    DEADLINE_MICROS,
    GRACE_MICROS,
    Granted,
    Hold,
    HoldKind,
    HoldState,
    LeaseState,
    Leg,
)
from bursar.budgets.lifecycle import release
from bursar.budgets.matching import Call, Matched
from bursar.budgets.refusal import Reason, Refused, Stopped
from bursar.budgets.settlement import (
    Outcome,
    Spend,
    check_sums_of,
    count,
    post_watched,
    record,
    watched_places,
)
from bursar.budgets.window import Window, WindowKey, reaches
from bursar.core.errors import Conflict, IdempotencyConflict, InvalidInput
from bursar.core.time import MICROS_PER_HOUR, MICROS_PER_SECOND

TTL_MICROS = 15 * MICROS_PER_SECOND
TTL_MAX_MICROS = MICROS_PER_HOUR
SHARE_MAX = 10
"""A lease is at most a tenth of a limit."""

_OUTCOMES = {Effect.SETTLED: Outcome.SETTLED, Effect.LATE: Outcome.LATE, Effect.UNHELD: Outcome.UNHELD}


class Demand(msgspec.Struct, frozen=True):
    """What decides a lease's size, besides room.

    Attributes:
        worst: The worst case of one call.
        rate: What the client spends a second, by metric.
        clients: How many clients spend from the same windows at least, this one included;
            open leases are counted besides.
    """

    worst: Amounts
    rate: Amounts = NOTHING
    clients: int = 1


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for. `nonce` names the one process that may spend the lease."""

    hold_id: bytes
    key: bytes
    digest: bytes
    call: Call
    nonce: bytes
    demand: Demand
    ttl: int = TTL_MICROS
    deadline: int = DEADLINE_MICROS
    grace: int = GRACE_MICROS
    knows_tokens: bool = True


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat: what the client can do without, and what it still needs.

    `number` counts the reports of a lease from 1. What comes with a number that was heard
    before, or with one below it, was doubled or delayed on its way: it changes nothing, so
    a gift is taken once. `demand` asks for a renewal; `is_final` says that it spends no
    more (a return).
    """

    nonce: bytes
    number: int
    give_back: Amounts = NOTHING
    demand: Demand | None = None
    is_final: bool = False


class Reported(NamedTuple):
    """The answer to a report.

    Attributes:
        hold: The lease; what its legs hold, less what the client has not reported yet, is what
            it may still spend.
        is_renewed: It may be spent for another `ttl` from when the report was sent.
        is_recalled: Give back what is not in use, with the next report.
        stopped: Start no new call.
    """

    hold: Hold
    is_renewed: bool = False
    is_recalled: bool = False
    stopped: Stopped | None = None


class LeaseShared(Conflict):
    """Two processes spend one lease (a fork, a copied state); nothing of the second is counted here."""

    code = "lease_shared"


def clients_of(book: Book, windows: Collection[WindowKey], own: bytes) -> int:
    """Return how many clients spend from any of these windows by leases, `own` included."""
    ids = {own} | {lease for lease, legs in book.leases.items() if not legs.isdisjoint(windows)}
    for hold in book.holds.values():  # what this commit has granted or ended is not yet stored
        if hold.kind is HoldKind.LEASE and hold.id != own:
            is_near = hold.state is HoldState.OPEN and any(leg.window in windows for leg in hold.legs)
            (ids.add if is_near else ids.discard)(hold.id)
    return len(ids)


def slice_of(terms: Terms, window: Window, demand: Demand, ttl: int, *, own: int = 0) -> int | None:
    """Return how much of a window one client gets, None where only single holds are left.

    The lesser of twice what it spends in a `ttl` and half of its part of the room, at
    least one worst case and at most a tenth of the limit. `own` is what it holds already.
    From the first clamp on each call has to ask, as a lease could not bound its output; so has
    every call under a limit of loops, and nothing is held of a depth.
    """
    if terms.column >= DEPTH:
        return 0 if terms.column == DEPTH else None
    worst = demand.worst[terms.column] or 0
    room = max(0, cap_of(terms, window) - window.used) + own
    most = window.limit // SHARE_MAX
    if room < demand.clients * worst or worst > most:
        return None
    if terms.clamps and reaches(window.used, window.limit, terms.clamps[0][0]):
        return None
    by_rate = 2 * (demand.rate[terms.column] or 0) * ttl // MICROS_PER_SECOND
    return min(max(min(by_rate, room // (2 * demand.clients)), worst), most)


def acquire(book: Book, request: LeaseRequest, matched: Matched, now: Now) -> Granted | Refused | Stopped:
    """Move a slice of every binding budget to a client, or of none.

    The same key gives the same lease. When little room is left the refusal's reason is
    `single_holds_only`, so the last stretch of a budget is spent by plain holds.

    Raises:
        IdempotencyConflict: The key stands for another request.
        InvalidInput: `ttl` is not above zero or above an hour, or there are no clients.
    """
    known = book.hold_ids.get(request.key)
    if known is not None:
        hold = book.holds[known]
        if hold.digest != request.digest:
            raise IdempotencyConflict("the idempotency key stands for another lease; nothing was changed")
        return Granted(hold, is_repeat=True)
    if not 0 < request.ttl <= TTL_MAX_MICROS or request.demand.clients < 1:
        raise InvalidInput("ttl_s must be above zero and at most an hour", field="ttl_s")
    places = places_of(book, matched, request.call.run, now)
    refusal = stop_of(book, request.call, places) or refusal_of(
        places, request.demand.worst, knows_tokens=request.knows_tokens
    )
    if refusal is not None:
        if isinstance(refusal, Refused):
            note_crossing(book, places, refusal, Cause(request.call, now.at))
        return refusal
    demand = _among(book, places, request.demand, request.hold_id)
    sizes = _sizes(places, demand, request.ttl, {})
    if isinstance(sizes, Refused):
        return sizes
    return Granted(_granted(book, request, places, sizes, now))


def report(book: Book, hold: Hold, sent: Report, matched: Matched, now: Now) -> Reported:
    """Hear a client: renew, recall, or end its lease.

    The calls that it made were posted before (`spend_from_lease`), so that the rest of this
    answer has them taken out.

    Args:
        book: With the lease's windows, the tracks of `matched`, the call's gates, and the
            organisation's open leases.
        hold: The lease.
        sent: The report.
        matched: `BudgetIndex.matching(hold.call)`.
        now: `DecisionClock.read`.

    Raises:
        LeaseShared: Another process than the lease's own reports.
        ValueError: The hold is no lease (a programmer's error).
    """
    lease = hold.lease
    if lease is None:
        raise ValueError(hold.id)
    if sent.nonce != lease.nonce:
        book.tell(Notice(Occasion.LEASE_SHARED, None, source=hold.id, agent=hold.call.agent))
        raise LeaseShared("another process spends this lease; acquire one of your own")
    places = places_of(book, matched, hold.call.run, now)
    if sent.number <= lease.sequence:
        return Reported(hold, stopped=stop_of(book, hold.call, places))
    lease.sequence = sent.number
    book.write_hold(hold)
    if hold.state is HoldState.OPEN:
        _give_back(book, hold, sent.give_back)
        if sent.is_final:
            _end(book, hold, HoldState.SETTLED, now)
            lease.returned = True
    return _answer(book, hold, places, sent.demand, now)


def spend_from_lease(book: Book, hold: Hold, spend: Spend, matched: Matched, now: Now) -> Outcome:
    """Post one call that a client paid from its lease: out of the rest, into what is settled.

    Whoever calls sees to it that a call comes once (by its idempotency key, or its place in
    the journal); order does not matter. It is late after the lease's end (against what lies in
    suspense), unheld after its return or an operator's void; more than the rest is overrun.

    Args:
        book: With the lease's windows and the tracks of `matched`.
        hold: The lease.
        spend: `key` is the source of the posting; the windows are those of the grant.
        matched: `BudgetIndex.matching(hold.call)`.
        now: `DecisionClock.read`.

    Raises:
        AmountOverflow: A window's sum would leave 64 bits; nothing was changed.
    """
    watched = watched_places(book, hold, matched)
    check_sums_of(book, hold.legs, watched, spend.amounts)
    effect, cause = _effect(hold), Cause(hold.call, now.at)
    parts = []
    legs = []
    for leg in hold.legs:
        window = book.windows[leg.window]
        spent = counted(leg.column, window, spend.amounts) or 0
        legs.append(_spend_from(book, hold, leg, spent, effect))
        is_late = effect is not Effect.SETTLED and window.is_past(now.at)
        count(book, window, leg.column, spend.amounts, hold.created_at, is_late=is_late, cause=cause)
        parts.append((window, spent))
    hold.legs = tuple(legs)
    parts += post_watched(book, hold, watched, spend.amounts, now)
    record(book, spend.key, effect, parts)
    if hold.state is HoldState.SUSPENSE and not any(leg.held for leg in legs):
        _end(book, hold, HoldState.SETTLED_LATE, now)
    book.write_hold(hold)
    return _OUTCOMES[effect]


def _answer(book: Book, hold: Hold, places: list[Place], demand: Demand | None, now: Now) -> Reported:
    stopped = stop_of(book, hold.call, places)
    if hold.state is not HoldState.OPEN or stopped is not None:
        return Reported(hold, stopped=stopped)
    if any(terms.is_hard and _is_short(terms, window) for terms, window in places):
        return Reported(hold, is_recalled=True)
    is_current = [leg.window for leg in hold.legs] == [window.key for _, window in places]
    if demand is None or not is_current:
        return Reported(hold)
    is_enough = _renew(book, hold, places, _among(book, places, demand, hold.id), now)
    return Reported(hold, is_renewed=True, is_recalled=not is_enough)


def _is_short(terms: Terms, window: Window) -> bool:
    """Tell whether a window has less than nothing left, or calls in it whose cost nobody knows."""
    return window.used > window.limit or (terms.blocks_unpriced and window.unpriced > 0)


def _among(book: Book, places: list[Place], demand: Demand, own: bytes) -> Demand:
    """Return the demand of one among all who lease from the same windows."""
    counted = clients_of(book, {window.key for _, window in places}, own)
    return demand if counted <= demand.clients else msgspec.structs.replace(demand, clients=counted)


def _renew(book: Book, hold: Hold, places: list[Place], demand: Demand, now: Now) -> bool:
    """Prolong a lease and fill it up; tell whether it may keep what it has.

    It may not where too little is left for leases, nor where it holds more than it would get
    now while not one call would find room: then others starve beside an idle rest.
    """
    assert hold.lease is not None  # noqa: S101 - `report` has looked
    hold.deadline_at = max(hold.deadline_at, now.trusted + hold.lease.ttl)
    hold.expires_at = max(hold.expires_at, hold.deadline_at + hold.lease.wind_down)
    rests = {leg.column: leg.held for leg in hold.legs}
    sizes = _sizes(places, demand, hold.lease.ttl, rests)
    if isinstance(sizes, Refused):
        return False
    is_starving = any(window.remaining < (demand.worst[terms.column] or 0) for terms, window in places)
    is_ample = any(leg.held > sizes[leg.column] for leg in hold.legs)
    legs = []
    for leg, (_, window) in zip(hold.legs, places, strict=True):
        more = max(0, sizes[leg.column] - leg.held)
        window.held += more
        book.count_in(window, now.at)
        legs.append(leg._replace(amount=leg.amount + more, held=leg.held + more))
    hold.legs = tuple(legs)
    return not (is_starving and is_ample)


def _sizes(places: list[Place], demand: Demand, ttl: int, rests: dict[int, int]) -> dict[int, int] | Refused:
    """Return the slice of each metric, the least that any of its windows allows."""
    sizes: dict[int, int] = {}
    for terms, window in places:
        column = terms.column
        size = slice_of(terms, window, demand, ttl, own=rests.get(column, 0))
        if size is None:
            return Refused(
                Reason.SINGLE_HOLDS_ONLY,
                window.key,
                window.limit,
                window.settled,
                window.held,
                demand.worst[column],
                window.resets_at,
            )
        sizes[column] = min(size, sizes.get(column, size))
    return sizes


def _granted(book: Book, request: LeaseRequest, places: list[Place], sizes: dict[int, int], now: Now) -> Hold:
    legs = []
    for terms, window in places:
        amount = sizes[terms.column]
        window.held += amount
        window.open_legs += 1
        book.count_in(window, now.at)
        legs.append(Leg(window.key, terms.column, amount, amount))
    wind_down = request.deadline + request.grace
    hold = Hold(
        id=request.hold_id,
        key=request.key,
        digest=request.digest,
        call=request.call,
        created_at=now.at,
        deadline_at=now.trusted + request.ttl,
        expires_at=now.trusted + request.ttl + wind_down,
        amounts=Amounts(*(sizes.get(column, 0) for column in range(len(NOTHING)))),
        legs=tuple(legs),
        kind=HoldKind.LEASE,
        lease=LeaseState(request.nonce, request.ttl, wind_down),
    )
    book.write_hold(hold)
    return hold


def _spend_from(book: Book, hold: Hold, leg: Leg, spent: int, effect: Effect) -> Leg:
    """Take what was spent out of a leg's rest; more than the rest is overrun."""
    window = book.windows[leg.window]
    if effect is Effect.UNHELD:
        window.unheld += spent
        return leg
    covered = min(spent, leg.held if leg.is_open else min(leg.amount, window.remaining))
    if spent > covered:
        window.overrun += spent - covered
        agent = hold.call.agent
        book.tell(Notice(Occasion.OVERRUN, window.key, spent - covered, source=hold.id, agent=agent))
    if not leg.is_open:
        return leg
    window.held -= covered
    return leg._replace(held=leg.held - covered)


def _effect(hold: Hold) -> Effect:
    if hold.state is HoldState.OPEN:
        return Effect.SETTLED
    if hold.state in {HoldState.SETTLED, HoldState.VOIDED}:
        return Effect.UNHELD
    return Effect.LATE


def _give_back(book: Book, hold: Hold, amounts: Amounts) -> None:
    legs = []
    for leg in hold.legs:
        less = min(leg.held, max(0, amounts[leg.column] or 0))
        window = book.windows[leg.window]
        window.held -= less
        book.touch(window)
        legs.append(leg._replace(amount=leg.amount - less, held=leg.held - less))
    hold.legs = tuple(legs)


def _end(book: Book, hold: Hold, state: HoldState, now: Now) -> None:
    hold.legs = tuple(release(book, leg) for leg in hold.legs)
    book.end_hold(hold, state, now.at)
