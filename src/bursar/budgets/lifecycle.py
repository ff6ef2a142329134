"""The ends of a hold other than its settlement: void, expiry, suspense; and its extension.

    Hold + Book  →  void | extend | expire | end_suspense  →  Book

A hold ends exactly once. Only what had expired may be settled later (`settlement`).

Not here: leases' reports (`lease`).
"""

from bursar.budgets.book import Book, Notice, Occasion
from bursar.budgets.budget import OnExpiry
from bursar.budgets.clock import Now
from bursar.budgets.hold import (
    DEADLINE_MAX_MICROS,
    GRACE_MICROS,
    Hold,
    HoldKind,
    HoldResolved,
    HoldState,
    Leg,
)
from bursar.core.errors import InvalidInput


def void(book: Book, hold: Hold, now: Now, *, by_operator: bool = False) -> Hold:
    """Give a hold's room back: the call is known not to have been billed.

    A repeat changes nothing. What lies in suspense only an operator may void.

    Raises:
        HoldResolved: Settled or expired already, or in suspense and no operator asks.
    """
    if hold.state is HoldState.VOIDED:
        return hold
    if hold.state is not HoldState.OPEN and not (by_operator and hold.state is HoldState.SUSPENSE):
        raise HoldResolved(hold)
    hold.legs = tuple(release(book, leg) for leg in hold.legs)
    book.end_hold(hold, HoldState.VOIDED, now.at)
    return hold


def extend(book: Book, hold: Hold, deadline: int, now: Now, *, grace: int = GRACE_MICROS) -> Hold:
    """Move an open hold's deadline to `now` + `deadline`, never earlier and never past a day.

    Raises:
        HoldResolved: It is open no more.
        InvalidInput: `deadline` (microseconds) is not above zero.
    """
    if deadline <= 0:
        raise InvalidInput("deadline_s must be above zero", field="deadline_s")
    if hold.state is not HoldState.OPEN:
        raise HoldResolved(hold)
    latest = hold.created_at + DEADLINE_MAX_MICROS
    hold.deadline_at = max(hold.deadline_at, min(now.trusted + deadline, latest))
    hold.expires_at = max(hold.expires_at, hold.deadline_at + grace)
    book.write_hold(hold)
    return hold


def expire(book: Book, hold: Hold, now: Now) -> bool:
    """Let an open hold lapse if its time is over; tell whether it did.

    Room returns at once, except in hard budgets with `on_expiry` suspense and for the
    rest of a lease on a hard budget: there it stays counted until a late settlement, an
    operator's void, or the end of the window (`end_suspense`).
    """
    if hold.state is not HoldState.OPEN or now.trusted < hold.expires_at:
        return False
    is_lease = hold.kind is HoldKind.LEASE
    hold.legs = tuple(
        leg if _is_suspended(book, leg, is_lease=is_lease) else release(book, leg) for leg in hold.legs
    )
    suspended = [leg for leg in hold.legs if leg.is_open]
    if not suspended:
        book.end_hold(hold, HoldState.EXPIRED, now.at)
        return True
    hold.state = HoldState.SUSPENSE
    for leg in suspended:
        book.tell(Notice(Occasion.SUSPENDED, leg.window, leg.held, source=hold.id, agent=hold.call.agent))
    book.write_hold(hold)
    return True


def end_suspense(book: Book, hold: Hold, now: Now) -> bool:
    """Give back what a suspended hold keeps in windows that are over; tell whether any was.

    The hold is `expired` once nothing of it is counted.
    """
    if hold.state is not HoldState.SUSPENSE:
        return False
    at = now.trusted
    legs = tuple(
        release(book, leg) if leg.is_open and book.windows[leg.window].is_past(at) else leg
        for leg in hold.legs
    )
    if legs == hold.legs:
        return False
    hold.legs = legs
    if any(leg.is_open for leg in legs):
        book.write_hold(hold)
    else:
        book.end_hold(hold, HoldState.EXPIRED, now.at)
    return True


def release(book: Book, leg: Leg) -> Leg:
    """Take what a leg still holds out of its window and end it; an ended one stays as it is."""
    if not leg.is_open:
        return leg
    window = book.windows[leg.window]
    window.held -= leg.held
    book.leg_ended(window)
    return Leg(leg.window, leg.column, leg.amount, 0, is_open=False)


def _is_suspended(book: Book, leg: Leg, *, is_lease: bool) -> bool:
    terms = book.terms.get(leg.window.budget)
    if terms is None or not terms.is_hard or not leg.held:
        return False
    return is_lease or terms.budget.on_expiry is OnExpiry.SUSPENSE
