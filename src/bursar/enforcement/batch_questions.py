"""What a recorded batch asks of budgets: questions of `spending`, decided within the batch's transaction.

An event that names a hold is a `SettleEvent`, a repeat of one a `Repeat`, a sender a `Look`; spend
without a hold is `questions.Post`.
"""

import copy

from bursar.budgets import lifecycle
from bursar.budgets.amounts import Amounts, amounts_of
from bursar.budgets.batch import Priced, SettledAnswer
from bursar.budgets.book import Book
from bursar.budgets.guards import DEPTH_MAX, fingerprint_of
from bursar.budgets.hold import Hold, HoldKind, HoldState
from bursar.budgets.lease import spend_from_lease
from bursar.budgets.matching import Call, Matched
from bursar.budgets.seen import windows_seen
from bursar.budgets.settlement import Outcome, Spend, settle
from bursar.core.usage import UsageEvent
from bursar.enforcement.questions import Asked, OfHold, Scene


class SettleEvent(OfHold, frozen=True, kw_only=True):
    """Put what an event used in place of what its hold set aside, or take it out of its lease."""

    one: Priced

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """The hold's call, at the time of the grant."""
        hold = book.holds.get(self.id)
        return None if hold is None else (hold.call, (hold.created_at,))

    def decide(self, scene: Scene) -> SettledAnswer:
        """See `budgets.settlement.settle` and `budgets.lease.spend_from_lease`.

        Raises:
            AmountOverflow: A window cannot count so much; nothing was changed.
        """
        hold = scene.book.holds[self.id]
        event = self.one.event
        amounts = amounts_of(event, self.one.cost_nusd)
        if hold.kind is HoldKind.LEASE:
            amounts = guarded(event, amounts)  # a single call said both when it asked
        spend = Spend(event.key, hold.call, amounts, event.occurred_at)
        matched = _matching(scene, hold.call, _really(hold.call, event))
        if hold.kind is HoldKind.LEASE:
            outcome = spend_from_lease(scene.book, hold, spend, matched, scene.now)
        else:
            outcome = settle(scene.book, hold, spend, matched, scene.now).outcome
        return _answer(scene, hold, outcome)


class Repeat(OfHold, frozen=True):
    """Say again what a repeated event did to its hold.

    An event that was first recorded without its hold is counted as unheld already: the hold is
    released, so that the call does not count twice.
    """

    def decide(self, scene: Scene) -> SettledAnswer | None:
        """Return how the hold stands; None where there is none."""
        hold = scene.book.holds.get(self.id)
        if hold is None:
            return None
        if hold.kind is HoldKind.CALL and hold.state in {HoldState.OPEN, HoldState.SUSPENSE}:
            lifecycle.void(scene.book, hold, scene.now, by_operator=True)
        return _answer(scene, hold, Outcome.REPEATED)


class LookBack(OfHold, frozen=True, kw_only=True):
    """Load what a settlement's call meets where it names another model or user than its hold."""

    one: Priced

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """The call as it was made, at the time of the grant; nothing where it is the hold's."""
        hold = book.holds.get(self.id)
        if hold is None:
            return None
        really = _really(hold.call, self.one.event)
        return None if really == hold.call else (really, (hold.created_at,))

    def decide(self, scene: Scene) -> None:
        """Nothing."""


class Look(Asked, frozen=True, kw_only=True):
    """Load what a sender's calls meet now, and decide nothing."""

    call: Call

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]]:
        """Its call, now."""
        del book
        return self.call, ()

    def decide(self, scene: Scene) -> None:
        """Nothing."""


def guarded(event: UsageEvent, amounts: Amounts) -> Amounts:
    """Return an event's amounts with the depth and the fingerprint that its sender told, for guards of runs.

    They are fields that the ledger does not count and keeps among the attributes. What is no depth or
    fingerprint is not taken for one.
    """
    said = event.attributes
    if not said:
        return amounts
    depth, fingerprint = said.get("depth"), said.get("fingerprint")
    if isinstance(depth, int) and not isinstance(depth, bool) and 0 < depth <= DEPTH_MAX:
        amounts = amounts._replace(depth=depth)
    if isinstance(fingerprint, str):
        amounts = amounts._replace(fingerprint=fingerprint_of(fingerprint))
    return amounts


def _really(call: Call, event: UsageEvent) -> Call:
    """Return a hold's call as it was made in the end: another model may have answered."""
    subject = event.subject
    return call._replace(provider=subject.provider, model=subject.model, user=subject.user)


def _matching(scene: Scene, call: Call, really: Call) -> Matched:
    """Return the budgets of a hold's call, and those that count it as it was made in the end."""
    own = scene.matching(call)
    if really == call:
        return own
    known = {terms.id for part in own for terms in part}
    binding, watching = (
        tuple(terms for terms in part if terms.id not in known) for part in scene.matching(really)
    )
    return Matched(own.binding + binding, own.watching + watching)


def _answer(scene: Scene, hold: Hold, outcome: Outcome) -> SettledAnswer:
    return SettledAnswer(copy.copy(hold), outcome, windows_seen(scene.book, hold))
