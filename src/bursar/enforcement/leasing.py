"""Leases as their clients see them: what is asked at the desk, and the answer with all it needs.

    Acquire | Report  →  SeeingLease  →  desk  →  LeaseSeen

A client lives by the answer alone until its next report, so it is told the rest, how long it may
spend, whether somebody stopped it, and the epoch of the gates before it: all as of the decision.

Not here: the decisions (`budgets.lease`), the calls of a journal (`spending`), HTTP.
"""

import copy
from typing import NamedTuple

from bursar.budgets.amounts import Amounts
from bursar.budgets.authorise import places_of, stop_of
from bursar.budgets.book import Book
from bursar.budgets.gate import gate_keys
from bursar.budgets.hold import Granted, Hold
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.seen import WindowSeen, windows_seen
from bursar.core.time import MICROS_PER_SECOND
from bursar.enforcement.questions import Acquire, Report, Scene
from bursar.enforcement.seeing import Around


class LeaseSeen(NamedTuple):
    """A lease at a decision.

    Attributes:
        hold: What its legs hold, less what the client has not reported, may still be spent.
        windows: Of its legs.
        left: Microseconds for which it may be spent, from when the request was sent.
        epoch: The changes so far of the gates before its calls; it grows with each stop and resume.
        stopped: Start no new call.
        is_new: It was made by this request.
        is_renewed: This report prolonged it.
        is_recalled: Give back what is not in use.
    """

    hold: Hold
    windows: tuple[WindowSeen, ...]
    left: int
    epoch: int
    stopped: Stopped | None = None
    is_new: bool = False
    is_renewed: bool = False
    is_recalled: bool = False


class SeeingLease(Around[Acquire | Report], frozen=True):
    """A question about a lease, and a look at it once it is answered."""

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """Its call, also for a repeat: whoever asks again hears of a stop as well."""
        question = self.question
        return (question.request.call, ()) if isinstance(question, Acquire) else question.met(book)

    def decide(self, scene: Scene) -> LeaseSeen | Refused | Stopped:
        """Decide, then look. A stop refuses a new lease, and stands in the answer of one that is there.

        Raises:
            AppError: As `budgets.lease.acquire` and `report` do; `NotFound` without such a lease.
        """
        answer = self.question.decide(scene)
        if isinstance(answer, Refused | Stopped):
            return answer
        if isinstance(answer, Granted):
            hold = _copied(answer.hold)
            stopped = None
            if answer.is_repeat:
                places = places_of(scene.book, scene.matching(hold.call), hold.call.run, scene.now)
                stopped = stop_of(scene.book, hold.call, places)
            return _seen(scene, hold)._replace(is_new=not answer.is_repeat, stopped=stopped)
        return _seen(scene, answer.hold)._replace(
            stopped=answer.stopped, is_renewed=answer.is_renewed, is_recalled=answer.is_recalled
        )


def rate_by_calls(worst: Amounts, calls_e6: int) -> Amounts:
    """Return what a client uses a second that makes so many millionths of a call in it."""
    return Amounts(*((amount or 0) * calls_e6 // MICROS_PER_SECOND for amount in worst))


def rate_by_cost(worst: Amounts, nusd: int) -> Amounts:
    """Return what a client uses a second that spends `nusd` in it, the rest in proportion."""
    cost = worst.cost_nusd
    if not cost:
        return Amounts(nusd, calls=0)
    return Amounts(nusd, *((amount or 0) * nusd // cost for amount in worst[1:]))


def _seen(scene: Scene, hold: Hold) -> LeaseSeen:
    epoch = sum(scene.book.gates.of(key).epoch for key in gate_keys(hold.call))
    left = max(0, hold.deadline_at - scene.now.trusted)
    return LeaseSeen(hold, windows_seen(scene.book, hold), left, epoch)


def _copied(hold: Hold) -> Hold:
    own = copy.copy(hold)
    own.lease = copy.copy(own.lease)
    return own
