"""What was really spent: settling holds, spend that came without one, and corrections.

    Hold + Spend + Book  →  settle  →  Settled
    Spend + Book         →  post    →  windows, for an event without a hold

Money that a provider has billed is always recorded, whatever the limit: what was not
covered goes to `overrun` (more than was held) or `unheld` (nothing was held), so that
settled + held ≤ limit + overrun + unheld + lowered holds in every window.

Not here: which events are new (`storage`, unique key), prices (`pricing`).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from bursar.budgets.amounts import AMOUNT_MAX, COST, DEPTH, Amounts
from bursar.budgets.authorise import Place
from bursar.budgets.book import Book, Effect, Notice, Occasion, Posting
from bursar.budgets.budget import Terms
from bursar.budgets.clock import Now
from bursar.budgets.guards import Cause, counted, raise_reached, remember
from bursar.budgets.hold import Hold, HoldKind, HoldState, Leg
from bursar.budgets.matching import Call, Matched
from bursar.budgets.window import Window, WindowKey, WindowState, reaches
from bursar.core.errors import AmountOverflow, InvalidInput


class Spend(NamedTuple):
    """One call's facts: its idempotency key, whose it was, what it used, and when."""

    key: bytes
    call: Call
    amounts: Amounts
    occurred_at: int


class Outcome(StrEnum):
    """What a settlement did.

    `conflict` changed nothing: surfaces answer 409 with the hold's state.
    """

    SETTLED = "settled"
    LATE = "late"
    UNHELD = "unheld"
    REPEATED = "repeated"
    CONFLICT = "conflict"


class Settled(NamedTuple):
    """The hold as it stands now, and what this settlement did to it."""

    hold: Hold
    outcome: Outcome


Part = tuple[Window, int]


def settle(book: Book, hold: Hold, spend: Spend, matched: Matched, now: Now) -> Settled:
    """Put what a call really used in place of what was held for it.

    It posts to the hold's own windows, those of the time of the grant, also after their
    end. Budgets that match but have no leg (those that only watch) get it in their window
    of that time, unless they were made later. A second settlement gives the first
    answer if key and amounts are the same, else a conflict. After a void the money is real all
    the same and counts as unheld.

    Args:
        book: With the hold's windows and the tracks of `matched` loaded.
        hold: A single call's; a lease is reported to (`lease.report`).
        spend: Without a key of its own it takes the hold's.
        matched: `BudgetIndex.matching(spend.call)`.
        now: `DecisionClock.read`.

    Raises:
        AmountOverflow: A window's sum would leave 64 bits; nothing was changed.
        InvalidInput: The hold is a lease.
    """
    if hold.kind is HoldKind.LEASE:
        raise InvalidInput("a lease is reported to, not settled", field="id")
    if hold.settled is not None:
        return _settled_before(book, hold, spend)
    watched = watched_places(book, hold, matched)
    check_sums_of(book, hold.legs, watched, spend.amounts)
    state = hold.state
    if state is HoldState.VOIDED:
        outcome, effect = Outcome.UNHELD, Effect.UNHELD
        _tell_of(book, hold, Occasion.VOIDED_BUT_SPENT, spend.amounts.cost_nusd or 0)
    elif state is HoldState.OPEN:
        outcome, effect, state = Outcome.SETTLED, Effect.SETTLED, HoldState.SETTLED
    else:
        outcome, effect, state = Outcome.LATE, Effect.LATE, HoldState.SETTLED_LATE
    parts = post_legs(book, hold, spend.amounts, effect, now)
    parts += post_watched(book, hold, watched, spend.amounts, now)
    hold.legs = tuple(_ended(book, leg) for leg in hold.legs)
    hold.settle_key, hold.settled = spend.key, spend.amounts
    book.end_hold(hold, state, now.at)
    record(book, hold.id, effect, parts)
    return Settled(hold, outcome)


def post(book: Book, spend: Spend, matched: Matched, now: Now) -> None:
    """Count a call that came without a hold, in the window of its own time.

    A time ahead of ours counts now; a window that is over still gets it (`late`), without
    an alert. Budgets made after the call do not count it.

    Raises:
        AmountOverflow: A window's sum would leave 64 bits; nothing was changed.
    """
    at = min(spend.occurred_at, now.at)
    places = [
        (terms, book.window_at(terms, spend.call.run, at))
        for part in matched
        for terms in part
        if terms.budget.created_at <= at
    ]
    _check_sums((window, counted(terms.column, window, spend.amounts) or 0) for terms, window in places)
    cause = Cause(spend.call, now.at)
    parts = []
    for terms, window in places:
        is_late = window.is_past(now.at)
        actual = count(book, window, terms.column, spend.amounts, at, is_late=is_late, cause=cause)
        window.unheld += actual
        parts.append((window, actual))
        if terms.budget.requires_hold:
            agent = spend.call.agent
            book.tell(Notice(Occasion.UNAUTHORISED, window.key, actual, source=spend.key, agent=agent))
    record(book, spend.key, Effect.UNHELD, parts)


def correct(
    book: Book, source: bytes, keys: Iterable[WindowKey], now: Now, *, old: Amounts, new: Amounts
) -> None:
    """Replace what one event counted as, in the windows to which it was posted.

    For revisions and for prices learned later (`old` with cost None). What it adds counts
    as unheld: nothing was set aside for it. A repetition that was counted stays counted.

    Args:
        book: With those windows loaded and their budgets among its terms.
        source: The event's key.
        keys: The windows of the event's posting.
        now: `DecisionClock.read`.
        old: What stands there.
        new: What takes its place; `NOTHING` takes the event out.

    Raises:
        AmountOverflow: A window's sum would leave 64 bits; nothing was changed.
    """
    places = [(book.terms[key.budget], book.windows[key]) for key in keys if key.budget in book.terms]
    changes = [(window, _change(terms.column, old, new)) for terms, window in places]
    _check_sums(changes)
    for (terms, window), (_, change) in zip(places, changes, strict=True):
        window.settled += change
        window.unheld += max(0, change)
        if terms.column == COST:
            window.unpriced += (new.cost_nusd is None) - (old.cost_nusd is None)
        book.touch(window)
        if not window.is_past(now.at):
            alert(book, window)
    record(book, source, Effect.CORRECTED, changes)


def post_legs(book: Book, hold: Hold, actual: Amounts, effect: Effect, now: Now) -> list[Part]:
    """Add `actual` to the windows of a hold's legs and take out what was held for it.

    What exceeds the leg goes to `overrun`; where the room was given back before, only what
    still finds room counts as covered. The legs themselves stay for the caller to replace.
    """
    parts = []
    for leg in hold.legs:
        window = book.windows[leg.window]
        column = leg.column
        spent = (actual[column] or 0) if column < DEPTH else leg.amount
        if effect is Effect.UNHELD:
            window.unheld += spent
        else:
            covered = leg.held if leg.is_open else min(leg.amount, window.remaining)
            excess = max(0, spent - covered)
            window.held -= leg.held
            if excess:
                window.overrun += excess
                _tell_of(book, hold, Occasion.OVERRUN, excess, window)
        is_late = effect is not Effect.SETTLED and window.is_past(now.at)
        fact = actual[COST] if column == COST else spent
        add(book, window, fact, hold.created_at, is_late=is_late, cause=Cause(hold.call, now.at))
        parts.append((window, spent))
    return parts


def alert(book: Book, window: Window, cause: Cause | None = None, *, depth: int = 0) -> None:
    """Raise each threshold that a window has reached, once, and its incident at the limit.

    Args:
        book: With the window.
        window: After it has counted.
        cause: What brought it there, None where no call did.
        depth: What a gauge shows, in place of what was spent.
    """
    terms = book.terms.get(window.key.budget)
    if terms is None:
        return
    settled, limit = window.settled, window.limit
    if terms.is_hard and settled >= limit and not window.has_incident:
        window.has_incident = True
        agent = cause.call.agent if cause is not None else ""
        book.tell(Notice(Occasion.INCIDENT, window.key, settled, agent=agent))
    amount = depth or settled
    if terms.first_ppm and reaches(amount, limit, terms.first_ppm):
        shares = [threshold.at_ppm for threshold in terms.budget.thresholds]
        raise_reached(book, terms, window, amount, cause=cause, shares=shares)


def _settled_before(book: Book, hold: Hold, spend: Spend) -> Settled:
    """Answer a repeat with the first result; tell an operator of another amount."""
    is_same = spend.amounts == hold.settled
    if spend.key == hold.settle_key and is_same:
        return Settled(hold, Outcome.REPEATED)
    if not is_same:
        cost = spend.amounts.cost_nusd or 0
        _tell_of(book, hold, Occasion.SETTLED_DIFFERENTLY, cost)
    return Settled(hold, Outcome.CONFLICT)


def watched_places(book: Book, hold: Hold, matched: Matched) -> list[Place]:
    """Return the matching budgets in which a hold has no leg, with their window of its time.

    Without those that were made after it. A binding budget of the very same instant
    was made after it, too, or the hold would have a leg there.
    """
    own = {leg.window.budget for leg in hold.legs}
    at = hold.created_at
    return [
        (terms, book.window_at(terms, hold.call.run, at))
        for part in matched
        for terms in part
        if terms.id not in own and _is_older(terms, at)
    ]


def _is_older(terms: Terms, at: int) -> bool:
    created_at = terms.budget.created_at
    return created_at < at or (created_at == at and not terms.budget.is_binding)


def post_watched(book: Book, hold: Hold, watched: list[Place], actual: Amounts, now: Now) -> list[Part]:
    """Add `actual` to windows in which a hold has no leg; in hard ones it counts as unheld."""
    cause = Cause(hold.call, now.at)
    own = hold.amounts
    depth, fingerprint = actual.depth or own.depth, actual.fingerprint or own.fingerprint
    actual = actual._replace(depth=depth, fingerprint=fingerprint)
    parts = []
    for terms, window in watched:
        is_late = window.state is WindowState.CLOSED
        spent = count(book, window, terms.column, actual, hold.created_at, is_late=is_late, cause=cause)
        if terms.is_hard:
            window.unheld += spent
        parts.append((window, spent))
    return parts


def count(
    book: Book, window: Window, column: int, actual: Amounts, at: int, *, is_late: bool, cause: Cause
) -> int:
    """Count a call in a window, as its metric does; return what it added."""
    spent = counted(column, window, actual)
    depth = 0
    if column == DEPTH:
        depth = actual.depth
    elif column > DEPTH:
        remember(window, actual)
    add(book, window, spent, at, is_late=is_late, cause=cause, depth=depth)
    return spent or 0


def add(
    book: Book,
    window: Window,
    spent: int | None,
    at: int,
    *,
    is_late: bool,
    cause: Cause,
    depth: int = 0,
) -> None:
    """Count an amount in a window at `at`; what is late is counted so, and without an alert."""
    if spent is None:
        window.unpriced += 1
    else:
        window.settled += spent
        if is_late:
            window.late += spent
    book.count_in(window, at)
    if not is_late:
        alert(book, window, cause, depth=depth)


def _tell_of(book: Book, hold: Hold, occasion: Occasion, amount: int, window: Window | None = None) -> None:
    key = None if window is None else window.key
    book.tell(Notice(occasion, key, amount, source=hold.id, agent=hold.call.agent))


def _ended(book: Book, leg: Leg) -> Leg:
    """End a leg whose amount `post_legs` has taken out of its window."""
    if not leg.is_open:
        return leg
    book.leg_ended(book.windows[leg.window])
    return Leg(leg.window, leg.column, leg.amount, 0, is_open=False)


def check_sums_of(book: Book, legs: Iterable[Leg], watched: list[Place], actual: Amounts) -> None:
    """Refuse an amount that some window could not count.

    Raises:
        AmountOverflow: A sum would leave 64 bits.
    """
    own = [(leg.column, book.windows[leg.window]) for leg in legs]
    places = [*own, *((terms.column, window) for terms, window in watched)]
    _check_sums((window, counted(column, window, actual) or 0) for column, window in places)


def _change(column: int, old: Amounts, new: Amounts) -> int:
    return (new[column] or 0) - (old[column] or 0) if column < DEPTH else 0


def _check_sums(parts: Iterable[Part]) -> None:
    for window, amount in parts:
        if window.used + window.overrun + window.unheld + amount > AMOUNT_MAX:
            raise AmountOverflow("the budget's window cannot count so much; the amount is not plausible")


def record(book: Book, source: bytes, effect: Effect, parts: list[Part]) -> None:
    """Write the posting that explains what was added to each window; none where nothing was."""
    if parts:
        book.postings.append(Posting(source, effect, tuple((window.key, amount) for window, amount in parts)))
