"""Holds as values: room set aside before a call, and given back exactly once.

    Request  →  authorise  →  Hold  →  settle, void or expire, at most one of them

A hold has one leg per window of every binding budget, or it does not exist. It covers the
worst case; a smaller grant always comes with the `max_output_tokens` that makes it true.
Times are microseconds UTC; amounts are in each budget's unit.

Not here: the decisions (`authorise`, `lifecycle`, `settlement`, `lease`).
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import DEPTH, Amounts, checked
from bursar.budgets.matching import Call
from bursar.budgets.window import WindowKey
from bursar.core.errors import Conflict, InvalidInput
from bursar.core.time import MICROS_PER_HOUR, MICROS_PER_MINUTE

DEADLINE_MICROS = 10 * MICROS_PER_MINUTE
GRACE_MICROS = 5 * MICROS_PER_MINUTE
DEADLINE_MAX_MICROS = 24 * MICROS_PER_HOUR
"""The longest a hold may last from its beginning, extensions included, grace excluded."""


class HoldState(StrEnum):
    """Stored. Only an expired or suspended hold may be settled later (`settled_late`)."""

    OPEN = "open"
    SETTLED = "settled"
    VOIDED = "voided"
    EXPIRED = "expired"
    SUSPENSE = "suspense"
    SETTLED_LATE = "settled_late"


class HoldKind(StrEnum):
    """Stored."""

    CALL = "call"
    LEASE = "lease"


class Leg(NamedTuple):
    """A hold's part in one window.

    `amount` is what was granted, `held` what of it still counts in the window; `is_open` is
    False once the leg can change no more.
    """

    window: WindowKey
    column: int
    amount: int
    held: int
    is_open: bool = True

    def excess_of(self, actual: Amounts) -> int:
        """Return by how much a call passed what was granted for it; run guards are never passed."""
        return max(0, (actual[self.column] or 0) - self.amount) if self.column < DEPTH else 0


class LeaseState(msgspec.Struct):
    """What a lease has beyond a hold: who spends it, and how far its reports have come.

    Attributes:
        nonce: The one process that may spend it.
        sequence: The number of the last report heard; what is not above it came late or twice.
        ttl: Microseconds from a grant or renewal to its end.
        wind_down: How long its calls may go on after that: deadline and grace.
        returned: Its client said that it spends no more.
    """

    nonce: bytes
    ttl: int
    wind_down: int
    sequence: int = 0
    returned: bool = False


class Hold(msgspec.Struct, kw_only=True):
    """One hold as stored, its legs packed in it.

    Attributes:
        key: Its idempotency key, unique per organisation for ever.
        digest: Of the request's content, to tell a repeat from a conflict.
        max_output_tokens: What the caller must pass on for the promise to hold; None where
            the request named an amount.
        settle_key, settled: The first settlement, to answer repeats; None before it.
        ended_at: When the last of it stopped counting in `held`; None while some of it does.
    """

    id: bytes
    key: bytes
    digest: bytes
    call: Call
    created_at: int
    deadline_at: int
    expires_at: int
    amounts: Amounts
    legs: tuple[Leg, ...] = ()
    state: HoldState = HoldState.OPEN
    kind: HoldKind = HoldKind.CALL
    max_output_tokens: int | None = None
    parent: bytes | None = None
    settle_key: bytes | None = None
    settled: Amounts | None = None
    lease: LeaseState | None = None
    ended_at: int | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What an authorise asks for; `checked_request` makes one from outside values.

    Attributes:
        hold_id: A fresh id, used only if a hold is made.
        amounts: The worst case; its cost is None where no price is known. A ceiling price
            is a price: pass the amount it gives.
        sized: The worst case for fewer output tokens, which must never grow as they
            shrink; needed for clamps and `allow_smaller`.
        min_output_tokens: The smallest grant that is of use.
        knows_tokens: False where the worst case is an amount of money and no tokens are told.
    """

    hold_id: bytes
    key: bytes
    digest: bytes
    call: Call
    amounts: Amounts
    max_output_tokens: int | None = None
    sized: Callable[[int], Amounts] | None = None
    allow_smaller: bool = False
    min_output_tokens: int = 1
    deadline: int = DEADLINE_MICROS
    grace: int = GRACE_MICROS
    parent: bytes | None = None
    knows_tokens: bool = True


class Granted(NamedTuple):
    """A hold stands; `is_repeat` says that it stood before this request."""

    hold: Hold
    is_repeat: bool = False


class HoldResolved(Conflict):
    """The hold has ended in another way; `hold.state` is how. Nothing was changed by this."""

    code = "hold_resolved"

    def __init__(self, hold: Hold) -> None:
        super().__init__(f"the hold is {hold.state.value} already")
        self.hold = hold


def checked_request(request: Request) -> Request:
    """Return `request` if its amounts and times can be worked with.

    Raises:
        InvalidInput: An amount is negative or too large, or a deadline out of bounds.
    """
    checked(request.amounts)
    if not 0 < request.deadline <= DEADLINE_MAX_MICROS:
        raise InvalidInput("deadline_s must be above zero and at most a day", field="deadline_s")
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise InvalidInput("max_output_tokens must be above zero", field="max_output_tokens")
    return request
