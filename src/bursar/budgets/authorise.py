"""The check before a call: set its worst case aside in every window it meets, or in none.

    Request + Matched + Book  →  authorise  →  Granted | Refused | Stopped

Not here: estimating the worst case (`estimate`), what ends a hold (`settlement`,
`lifecycle`), leases (`lease`).
"""

from collections.abc import Callable

import msgspec

from bursar.budgets.amounts import AMOUNT_MAX, DEPTH, TOKENS, Amounts
from bursar.budgets.book import Book, Notice, Occasion
from bursar.budgets.budget import PPM, Action, Terms
from bursar.budgets.clock import Now
from bursar.budgets.gate import GateState, Owner
from bursar.budgets.guards import Cause, asked_of, counted, note_refusal, raise_reached, remember
from bursar.budgets.hold import Granted, Hold, Leg, Request
from bursar.budgets.matching import Call, Matched
from bursar.budgets.refusal import Reason, Refused, Stopped
from bursar.budgets.window import Window, reaches, share_of
from bursar.core.errors import IdempotencyConflict

Place = tuple[Terms, Window]
"""A binding budget and the window in which a call would count."""


def authorise(book: Book, request: Request, matched: Matched, now: Now) -> Granted | Refused | Stopped:
    """Set the worst case aside in every binding window, or in none.

    The same key gives the same hold in whatever state it is, also when the budget is full
    by now or the agent stopped; a refusal is not remembered and is decided anew. After a grant,
    settled + held fits the limit of each hard window.

    Args:
        book: With the tracks of `matched`, the call's gates, and the key's hold loaded.
        request: From `checked_request`.
        matched: `BudgetIndex.matching(request.call)`.
        now: `DecisionClock.read`.

    Raises:
        IdempotencyConflict: The key stands for another request; nothing was changed.
    """
    known = book.hold_ids.get(request.key)
    if known is not None:
        return _repeated(book.holds[known], request)
    places = places_of(book, matched, request.call.run, now)
    stopped = stop_of(book, request.call, places)
    if stopped is not None:
        return stopped
    if request.max_output_tokens is not None:
        request = _clamped(places, request)
    refused = refusal_of(places, request.amounts, knows_tokens=request.knows_tokens)
    if refused is not None and request.allow_smaller:
        smaller = _smaller(places, request)
        request, refused = smaller or request, None if smaller else refused
    if refused is not None:
        note_crossing(book, places, refused, Cause(request.call, now.at))
        return refused
    return Granted(_grant(book, request, places, now))


def places_of(book: Book, matched: Matched, run: str, now: Now) -> list[Place]:
    """Return each binding budget with the window that counts now.

    While a step of the clock is suspect, hard budgets come twice: with the window of the
    time before the step as well.
    """
    at, doubted = now
    places = [(terms, book.window_at(terms, run, at)) for terms in matched.binding]
    if doubted is None:
        return places
    both: list[Place] = []
    for terms, window in places:
        older = book.window_at(terms, run, doubted) if terms.is_hard else window
        if not older.key.starts_at <= at < older.ends_at:
            both.append((terms, older))
            both.append((terms, window))
        else:
            both.append((terms, older))
    return both


def stop_of(book: Book, call: Call, places: list[Place]) -> Stopped | None:
    """Return what stops a call before any amount is looked at: a gate, or a budget's stop."""
    gate = book.gates.stopping(call)
    if gate is not None and gate.stop is not None:
        stop = gate.stop
        return Stopped(stop.state, stop.owner, stop.reason, stop.actor)
    for terms, window in places:
        if terms.stop is not None and reaches(window.settled, window.limit, terms.stop.at_ppm):
            return budget_stop(terms, window)
    return None


def budget_stop(terms: Terms, window: Window) -> Stopped:
    """Return the stop that follows from a window; it ends with the window or a raise."""
    is_kill = terms.stop is not None and terms.stop.action is Action.KILL
    state = GateState.KILLED if is_kill else GateState.PAUSED
    name = terms.budget.name or "a budget"
    return Stopped(state, Owner.BUDGET, f"{name} is used up", "", window.key, window.resets_at)


def exceeded(book: Book, matched: Matched, call: Call, now: Now) -> list[Place]:
    """Return the hard budgets that are spent up: what ingest answers for after recording.

    To be asked before the batch is posted, so that the batch that crosses a limit still
    passes. `Scope.kind` tells which of them are an organisation's or an agent's.
    """
    places = places_of(book, matched, call.run, now)
    return [(terms, window) for terms, window in places if terms.is_hard and window.settled >= window.limit]


def _repeated(hold: Hold, request: Request) -> Granted:
    if hold.digest != request.digest:
        raise IdempotencyConflict("the idempotency key stands for another hold; nothing was changed")
    return Granted(hold, is_repeat=True)


def _clamped(places: list[Place], request: Request) -> Request:
    """Return the request with the output that budgets nearly used up still allow."""
    tokens = wanted = request.max_output_tokens or 0
    for terms, window in places:
        for ppm, most in terms.clamps:
            if most < tokens and reaches(window.used, window.limit, ppm):
                tokens = most
    return request if tokens == wanted else _sized(request, tokens)


def _sized(request: Request, tokens: int) -> Request:
    """Return the request for fewer output tokens, priced anew where it says how."""
    amounts = request.amounts if request.sized is None else _worst(request, request.sized, tokens)
    return msgspec.structs.replace(request, amounts=amounts, max_output_tokens=tokens)


def _worst(request: Request, sized: Callable[[int], Amounts], tokens: int) -> Amounts:
    """Return the worst case for other output tokens; the call itself is the same one."""
    own = request.amounts
    return sized(tokens)._replace(depth=own.depth, fingerprint=own.fingerprint)


def refusal_of(places: list[Place], amounts: Amounts, *, knows_tokens: bool = True) -> Refused | None:
    """Return the first window that an amount does not fit, None if it fits all of them.

    Where the tokens are not known no hard budget of tokens can tell, so it refuses.
    """
    for terms, window in places:
        column = terms.column
        if not knows_tokens and terms.is_hard and column in TOKENS:
            return _refused(Reason.UNKNOWN_USAGE, window, None)
        asked = amounts[column] if column <= DEPTH else asked_of(column, window, amounts)
        if asked is None or (window.unpriced and terms.blocks_unpriced):
            reason = _unpriced_reason(terms, window, asked)
            if reason is not None:
                return _refused(reason, window, asked)
        if not asked and terms.is_money:
            continue  # a free model is never blocked by a money budget
        if window.settled + window.held + (asked or 0) > cap_of(terms, window):
            return _refused(Reason.NO_ROOM, window, asked)
    return None


def cap_of(terms: Terms, window: Window) -> int:
    """Return up to where a window grants; the largest amount where it never refuses."""
    ppm = terms.refuses_at_ppm
    if ppm == PPM:
        return window.limit
    return share_of(window.limit, ppm) if ppm else AMOUNT_MAX


def _unpriced_reason(terms: Terms, window: Window, asked: int | None) -> Reason | None:
    if asked is None:
        return Reason.UNKNOWN_PRICE if terms.is_hard else None
    return Reason.UNPRICED_SPEND if asked and window.unpriced else None


def _refused(reason: Reason, window: Window, asked: int | None) -> Refused:
    return Refused(reason, window.key, window.limit, window.settled, window.held, asked, window.resets_at)


def _smaller(places: list[Place], request: Request) -> Request | None:
    """Return the request for the most output tokens that fit, None where none is of use."""
    sized, most, least = request.sized, request.max_output_tokens, request.min_output_tokens
    if sized is None or most is None or most <= least:
        return None
    if refusal_of(places, _worst(request, sized, least)) is not None:
        return None
    while least + 1 < most:
        middle = (least + most) // 2
        if refusal_of(places, _worst(request, sized, middle)) is None:
            least = middle
        else:
            most = middle
    return _sized(request, least)


def _grant(book: Book, request: Request, places: list[Place], now: Now) -> Hold:
    at = now.at
    amounts = request.amounts
    legs = []
    for terms, window in places:
        column = terms.column
        amount = amounts[column] or 0 if column < DEPTH else _guarded(book, terms, window, request, at)
        window.held += amount
        window.open_legs += 1
        book.count_in(window, at)
        legs.append(Leg(window.key, column, amount, amount))
    deadline_at = now.trusted + request.deadline
    hold = Hold(
        id=request.hold_id,
        key=request.key,
        digest=request.digest,
        call=request.call,
        created_at=at,
        deadline_at=deadline_at,
        expires_at=deadline_at + request.grace,
        amounts=amounts,
        legs=tuple(legs),
        max_output_tokens=request.max_output_tokens,
        parent=request.parent,
    )
    book.write_hold(hold)
    return hold


def _guarded(book: Book, terms: Terms, window: Window, request: Request, at: int) -> int:
    """Return what a granted call holds of a run guard; a depth that is due for an alert has it now."""
    amounts = request.amounts
    amount = counted(terms.column, window, amounts) or 0
    if terms.column == DEPTH:
        shares = [t.at_ppm for t in terms.budget.thresholds]
        cause = Cause(request.call, at)
        raise_reached(book, terms, window, amounts.depth, cause=cause, shares=shares)
    else:
        remember(window, amounts)
    return amount


def note_crossing(book: Book, places: list[Place], refused: Refused, cause: Cause) -> None:
    """Open the window's incident at its first refusal for want of room, and trip its latches."""
    if refused.reason is not Reason.NO_ROOM:
        return
    terms, window = next(place for place in places if place[1].key == refused.window)
    if terms.latches:
        note_refusal(book, terms, window, window.used + (refused.asked or 0), cause)
    if window.key not in book.windows or window.has_incident:
        return
    window.has_incident = True
    book.touch(window)
    book.tell(Notice(Occasion.INCIDENT, window.key, refused.asked or 0, agent=cause.call.agent))
