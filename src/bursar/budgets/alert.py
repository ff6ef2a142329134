"""Alerts: what somebody should hear of, as rows that stand beside what caused it.

    Notice  →  raised  →  Alert  →  storage, in the commit of its cause

Each happens once: a window remembers its thresholds, and a crossing its incident. That a
window closed is no alert. Not here: who is told, and how.
"""

import msgspec

from bursar.budgets.book import Notice, Occasion


class Alert(msgspec.Struct, frozen=True):
    """One alert as stored.

    Attributes:
        id: Time-ordered; deliveries carry it, so a repeated one is recognised.
        at: The deciding time, microseconds UTC.
        budget, member, starts_at: The window; all but the budget are empty where it is about a
            budget as such, all of them where it is about a hold.
        amount: In the budget's unit; nano-USD without a budget.
        share_ppm: The threshold that was reached, else 0.
        source: The hold, or the event's key (`is_of_event`), that caused it.
    """

    id: bytes
    at: int
    occasion: Occasion
    budget: bytes | None = None
    member: str = ""
    starts_at: int | None = None
    amount: int = 0
    share_ppm: int = 0
    agent: str = ""
    source: bytes | None = None

    @property
    def is_of_event(self) -> bool:
        """Whether `source` is an event's key; else it is a hold's id."""
        return self.source is not None and self.occasion is Occasion.UNAUTHORISED


def raised(alert_id: bytes, notice: Notice, at: int) -> Alert | None:
    """Return the alert of a notice, None where it is nothing to alert of."""
    if notice.occasion is Occasion.WINDOW_CLOSED:
        return None
    budget, member, starts_at = notice.window or (notice.budget, "", None)
    return Alert(
        alert_id, at, notice.occasion, budget, member, starts_at, notice.amount, notice.share_ppm,
        notice.agent, notice.source,
    )  # fmt: skip
