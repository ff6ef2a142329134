"""What is asked of budgets, as values: each says what must be loaded for it and how it is decided.

    Authorise | Settle | Void | …  →  commits.decide_all  →  an answer, or the error its caller gets

An answer's hold is a copy as of its decision: a later question of the same commit may change
the hold itself.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from bursar.budgets import lease, lifecycle, settlement
from bursar.budgets.amounts import Amounts
from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book
from bursar.budgets.clock import Now
from bursar.budgets.hold import GRACE_MICROS, Granted, Hold, Request
from bursar.budgets.matching import BudgetIndex, Call, Matched
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Settled, Spend
from bursar.budgets.window import WindowKey
from bursar.core.errors import NotFound

Answer_co = TypeVar("Answer_co", covariant=True)


class Scene(NamedTuple):
    """What a decision is made over: `posted` are the windows of the named events."""

    book: Book
    active: BudgetIndex
    now: Now
    posted: Mapping[bytes, Sequence[WindowKey]]

    def matching(self, call: Call) -> Matched:
        """Return the budgets that a call meets."""
        return self.active.matching(call)


class Question(Protocol[Answer_co]):
    """One thing to decide.

    Attributes:
        hold_id: The hold it names.
        hold_key: The idempotency key under which a hold may stand already.
        source: The event whose windows it touches.
        counts_leases: It asks how many clients spend by leases.
    """

    @property
    def hold_id(self) -> bytes | None:
        """See the class."""
        ...

    @property
    def hold_key(self) -> bytes | None:
        """See the class."""
        ...

    @property
    def source(self) -> bytes | None:
        """See the class."""
        ...

    @property
    def counts_leases(self) -> bool:
        """See the class."""
        ...

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """Return the call whose budgets it meets, and the instants beside now; None if it meets none.

        Args:
            book: With the named holds loaded, nothing else.
        """
        ...

    def decide(self, scene: Scene) -> Answer_co:
        """Decide over what was loaded; an `AppError` is an answer too."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """A question that names nothing, until it says so."""

    @property
    def hold_id(self) -> bytes | None:
        """No hold."""
        return None

    @property
    def hold_key(self) -> bytes | None:
        """No key."""
        return None

    @property
    def source(self) -> bytes | None:
        """No event."""
        return None

    @property
    def counts_leases(self) -> bool:
        """It does not ask."""
        return False

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """No budget beyond the legs of its hold, or those that its event was posted to."""
        del book
        return None


class Authorise(Asked, frozen=True):
    """Set the worst case of a call aside."""

    request: Request

    @property
    def hold_key(self) -> bytes:
        """Its idempotency key."""
        return self.request.key

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """Its call, now; nothing for a repeat, which is answered from its hold."""
        return None if self.request.key in book.hold_ids else (self.request.call, ())

    def decide(self, scene: Scene) -> Granted | Refused | Stopped:
        """See `budgets.authorise`."""
        answer = authorise(scene.book, self.request, scene.matching(self.request.call), scene.now)
        return _copied(answer)


class Acquire(Asked, frozen=True):
    """Move a slice of the budgets to a client."""

    request: lease.LeaseRequest

    @property
    def hold_key(self) -> bytes:
        """Its idempotency key."""
        return self.request.key

    @property
    def counts_leases(self) -> bool:
        """The more clients, the smaller each slice."""
        return True

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """Its call, now; nothing for a repeat."""
        return None if self.request.key in book.hold_ids else (self.request.call, ())

    def decide(self, scene: Scene) -> Granted | Refused | Stopped:
        """See `budgets.lease.acquire`."""
        answer = lease.acquire(scene.book, self.request, scene.matching(self.request.call), scene.now)
        return _copied(answer)


class OfHold(Asked, frozen=True):
    """A question about one hold that stands."""

    id: bytes

    @property
    def hold_id(self) -> bytes:
        """The hold."""
        return self.id

    def named(self, book: Book) -> Hold:
        """Return the hold.

        Raises:
            NotFound: There is none.
        """
        hold = book.holds.get(self.id)
        if hold is None:
            raise NotFound("there is no such hold")
        return hold


class Settle(OfHold, frozen=True):
    """Put what a call used in place of what was held. Without a `key` it takes the hold's."""

    amounts: Amounts
    occurred_at: int
    key: bytes | None = None

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """The hold's call, at the time of the grant."""
        hold = book.holds.get(self.id)
        return None if hold is None else (hold.call, (hold.created_at,))

    def decide(self, scene: Scene) -> Settled:
        """See `budgets.settlement.settle`."""
        hold = self.named(scene.book)
        spend = Spend(self.key or hold.key, hold.call, self.amounts, self.occurred_at)
        done = settlement.settle(scene.book, hold, spend, scene.matching(hold.call), scene.now)
        return done._replace(hold=copy.copy(done.hold))


class Report(OfHold, frozen=True):
    """A lease's heartbeat."""

    sent: lease.Report

    @property
    def counts_leases(self) -> bool:
        """Where it asks for more."""
        return self.sent.demand is not None

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """The lease's call, now and at the time of the grant."""
        hold = book.holds.get(self.id)
        return None if hold is None else (hold.call, (hold.created_at,))

    def decide(self, scene: Scene) -> lease.Reported:
        """See `budgets.lease.report`."""
        hold = self.named(scene.book)
        if hold.lease is None:
            raise NotFound("there is no such lease")
        answer = lease.report(scene.book, hold, self.sent, scene.matching(hold.call), scene.now)
        own = copy.copy(answer.hold)
        own.lease = copy.copy(own.lease)
        return answer._replace(hold=own)


class Void(OfHold, frozen=True):
    """Give a hold's room back."""

    by_operator: bool = False

    def decide(self, scene: Scene) -> Hold:
        """See `budgets.lifecycle.void`."""
        hold = self.named(scene.book)
        return copy.copy(lifecycle.void(scene.book, hold, scene.now, by_operator=self.by_operator))


class Extend(OfHold, frozen=True):
    """Move a hold's deadline; microseconds from now."""

    deadline: int
    grace: int = GRACE_MICROS

    def decide(self, scene: Scene) -> Hold:
        """See `budgets.lifecycle.extend`."""
        hold = self.named(scene.book)
        return copy.copy(lifecycle.extend(scene.book, hold, self.deadline, scene.now, grace=self.grace))


class Lapse(OfHold, frozen=True):
    """Let a hold lapse, or end its suspense, where that is due; tell whether it was."""

    def decide(self, scene: Scene) -> bool:
        """See `budgets.lifecycle.expire` and `end_suspense`."""
        hold = self.named(scene.book)
        has_lapsed = lifecycle.expire(scene.book, hold, scene.now)
        return lifecycle.end_suspense(scene.book, hold, scene.now) or has_lapsed


class Post(Asked, frozen=True):
    """Count a call that came without a hold."""

    spend: Spend

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]]:
        """Its call, at its own time."""
        del book
        return self.spend.call, (self.spend.occurred_at,)

    def decide(self, scene: Scene) -> None:
        """See `budgets.settlement.post`."""
        settlement.post(scene.book, self.spend, scene.matching(self.spend.call), scene.now)


class Correct(Asked, frozen=True):
    """Replace what one event counted as, wherever it was posted."""

    event: bytes
    old: Amounts
    new: Amounts

    @property
    def source(self) -> bytes:
        """The event's key."""
        return self.event

    def decide(self, scene: Scene) -> None:
        """See `budgets.settlement.correct`."""
        keys = scene.posted.get(self.event, ())
        settlement.correct(scene.book, self.event, keys, scene.now, old=self.old, new=self.new)


def _copied(answer: Granted | Refused | Stopped) -> Granted | Refused | Stopped:
    """A fresh hold is known to nobody yet; a repeat's may be changed by its neighbour."""
    if isinstance(answer, Granted) and answer.is_repeat:
        return answer._replace(hold=copy.copy(answer.hold))
    return answer
