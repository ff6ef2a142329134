"""Run guards: what a call counts where that is not simply one of its own numbers, and stops that stay.

    Amounts + Window  →  counted, asked  →  authorise, settlement, lease
    a threshold reached  →  raise_reached  →  alerts; for a latched one a guard's stop

*Loops* counts the calls that a window has seen before, among its latest `RECENT_MAX`. An attempt
is remembered when it is granted or posted, whatever becomes of it: a call that is tried again
and again is what the guard looks for. *Depth* is a gauge: each call is compared with the
limit, and nothing is ever added up.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from bursar.budgets.amounts import DEPTH, Amounts
from bursar.budgets.book import Book, Notice, Occasion
from bursar.budgets.budget import PPM, Action, Terms, Threshold
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop, stop
from bursar.budgets.matching import Call
from bursar.budgets.window import Window, reaches

DEPTH_MAX = 1_000_000
"""The deepest that a caller may say a run is nested."""

RECENT_MAX = 32
"""Calls that a window remembers: loops of an agent are shorter, and a row stays small."""


class Cause(NamedTuple):
    """Whose call brought an amount, and the deciding time."""

    call: Call
    at: int


def counted(column: int, window: Window, amounts: Amounts) -> int | None:
    """Return what a call adds to a window: its amount, 1 for a repetition, nothing for a gauge."""
    if column < DEPTH:
        return amounts[column]
    return 0 if column == DEPTH else _repeats(window, amounts)


def asked_of(column: int, window: Window, amounts: Amounts) -> int | None:
    """Return what a call asks of a window: what it would add, or what a gauge would show."""
    return amounts[column] if column <= DEPTH else _repeats(window, amounts)


def remember(window: Window, amounts: Amounts) -> None:
    """Keep a call's fingerprint in a window that counts loops; it is then among the latest."""
    if amounts.fingerprint:
        window.recent = (*window.recent[1 - RECENT_MAX :], amounts.fingerprint)


def fingerprint_of(text: str) -> int:
    """Return 63 bits of a text, never 0, which stands for none; 0 of an empty one."""
    if not text:
        return 0
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 or 1


def raise_reached(
    book: Book, terms: Terms, window: Window, amount: int, *, cause: Cause | None, shares: Iterable[int]
) -> None:
    """Raise those thresholds, of the given shares, that an amount reaches and that were not raised yet.

    A latched one stops the caller too. Where no call is the cause (a changed limit, a price
    learned later), latched ones wait for the next call.
    """
    waiting = {t.at_ppm for t in terms.latches} if cause is None else ()
    fresh = [
        share
        for share in sorted({*shares}.difference(window.alerted, waiting))
        if reaches(amount, window.limit, share)
    ]
    agent = cause.call.agent if cause is not None else ""
    for share in fresh:
        window.alerted += (share,)
        book.tell(Notice(Occasion.THRESHOLD, window.key, amount, share, agent=agent))
    if cause is not None:
        for latch in terms.latches:
            if latch.at_ppm in fresh:
                _trip(book, terms, window, latch, amount=amount, cause=cause)


def note_refusal(book: Book, terms: Terms, window: Window, amount: int, cause: Cause) -> None:
    """Trip the latches up to the limit that a refused amount would have reached.

    The window is kept for it, so that it trips once; not a session's, which no refused call begins.
    """
    shares = [latch.at_ppm for latch in terms.latches if latch.at_ppm <= PPM]
    is_new = window.key not in book.windows
    is_session = terms.budget.period.begins_with_event and not terms.is_per_run
    if not shares or not terms.is_hard or (is_new and is_session):
        return
    book.count_in(window, cause.at)
    raise_reached(book, terms, window, amount, cause=cause, shares=shares)


def _repeats(window: Window, amounts: Amounts) -> int:
    return int(amounts.fingerprint != 0 and amounts.fingerprint in window.recent)


def _trip(book: Book, terms: Terms, window: Window, latch: Threshold, *, amount: int, cause: Cause) -> None:
    """Put a guard's stop before the caller; a pause never softens a guard's kill."""
    key = _gate_of(cause.call)
    state = GateState.KILLED if latch.action is Action.KILL else GateState.PAUSED
    own = next((s for s in book.gates.of(key).stops if s.owner is Owner.GUARD), None)
    if own is None or own.state is not GateState.KILLED:
        name = terms.budget.name or f"a budget of {terms.budget.metric.value}"
        reason = f"{name} reached {latch.at_ppm / (PPM // 100):g} % of its limit"
        stop(book.gates, key, Stop(Owner.GUARD, state, cause.at, reason))
    agent = cause.call.agent
    book.tell(Notice(Occasion.GUARD_TRIPPED, window.key, amount, latch.at_ppm, agent=agent))


def _gate_of(call: Call) -> GateKey:
    """Return the nearest gate a caller passes. A scope that names one is met by calls that name it too."""
    if call.agent:
        return GateKey(GateKind.AGENT, call.agent)
    if call.project:
        return GateKey(GateKind.PROJECT, call.project)
    return GateKey(GateKind.ORGANISATION, "")
