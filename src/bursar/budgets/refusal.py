"""Why a call is not granted, as values; and the errors that surfaces make of them.

Refusals are ordinary results, so that a batch decides its other requests undisturbed.
They carry what I17 asks for: the window, its numbers, and through its key the holds that
filled it. `raise_refusal` is for whoever answers one caller.
"""

from enum import StrEnum
from typing import NamedTuple, NoReturn

from bursar.budgets.gate import GateState, Owner
from bursar.budgets.window import WindowKey
from bursar.core.errors import AppError, Denied, Kind


class Reason(StrEnum):
    """Why a window refuses. Stands in the API."""

    NO_ROOM = "no_room"
    UNKNOWN_PRICE = "unknown_price"
    UNKNOWN_USAGE = "unknown_usage"
    UNPRICED_SPEND = "unpriced_spend"
    SINGLE_HOLDS_ONLY = "single_holds_only"


class Refused(NamedTuple):
    """It does not fit one window; its numbers are of the moment of the decision.

    Attributes:
        limit: In the budget's unit.
        asked: The worst case in that unit; None where its price is not known.
        resets_at: When the next window begins, None where none will.
    """

    reason: Reason
    window: WindowKey
    limit: int
    settled: int
    held: int
    asked: int | None
    resets_at: int | None


class Stopped(NamedTuple):
    """A gate or a budget's stop stands before the call; no amount would fit.

    Attributes:
        window: The window that causes it, where a budget does.
        resume_at: When it ends by itself, None where a person has to end it.
    """

    state: GateState
    owner: Owner
    reason: str = ""
    actor: str = ""
    window: WindowKey | None = None
    resume_at: int | None = None


class BudgetExceeded(AppError):
    """The call does not fit a budget. It may after `refused.resets_at`, or with a smaller amount."""

    kind = Kind.OVER_BUDGET
    code = "budget_exceeded"

    def __init__(self, refused: Refused) -> None:
        super().__init__(_SENTENCES[refused.reason])
        self.refused = refused


class AgentStopped(Denied):
    """Killed or paused; the caller cannot cure it. The code is `agent_killed` or `agent_paused`."""

    def __init__(self, stopped: Stopped) -> None:
        super().__init__(stopped.reason or f"{stopped.state.value} by {stopped.owner.value}")
        self.stopped = stopped
        self.code = f"agent_{stopped.state.value}"


_SENTENCES = {
    Reason.NO_ROOM: "the budget has no room for this call; wait for its next window or ask for less",
    Reason.UNKNOWN_PRICE: "the model has no known price; set a price or a ceiling for it",
    Reason.UNKNOWN_USAGE: "the budget counts tokens; say how many the call uses at most, not what it costs",
    Reason.UNPRICED_SPEND: "the budget's window holds calls without a known price; set a price for them",
    Reason.SINGLE_HOLDS_ONLY: "too little room is left for leases; ask for a hold before each call",
}


def raise_refusal(refusal: Refused | Stopped) -> NoReturn:
    """Raise the error of a refusal.

    Raises:
        BudgetExceeded: Of a `Refused`.
        AgentStopped: Of a `Stopped`.
    """
    if isinstance(refusal, Refused):
        raise BudgetExceeded(refusal)
    raise AgentStopped(refusal)
