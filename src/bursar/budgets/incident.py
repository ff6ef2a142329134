"""Incidents: one per hard crossing, and what a person decides about it.

    Notice(INCIDENT)  →  opened  →  Incident  →  resolved (raise, raise until, keep stopped)

The window remembers that it has one (`has_incident`), so concurrent crossings open a
single incident; a raise beyond what is spent lets the next crossing open another.
"""

from enum import StrEnum

import msgspec

from bursar.budgets.book import Book, Notice
from bursar.budgets.limits import set_window_limit
from bursar.budgets.window import WindowKey
from bursar.core.errors import Conflict, InvalidInput


class Resolution(StrEnum):
    """Stored. `raised` is for this window, `raised_until` is taken back by a job."""

    OPEN = "open"
    RAISED = "raised"
    RAISED_UNTIL = "raised_until"
    KEPT_STOPPED = "kept_stopped"


class Incident(msgspec.Struct, frozen=True):
    """One crossing of a hard limit, and how it was decided, by whom and why.

    Attributes:
        amount: What was spent, or asked for, at the crossing; in the budget's unit.
        limit_before: The limit that comes back at `until`.
        until: Microseconds UTC, for `raised_until`.
        ended_at: When such a raise was taken back.
    """

    id: bytes
    window: WindowKey
    opened_at: int
    amount: int
    resolution: Resolution = Resolution.OPEN
    actor: str = ""
    note: str = ""
    limit_before: int = 0
    until: int | None = None
    ended_at: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """What a person decides: a raise needs `limit`, a raise until a time `until` as well."""

    resolution: Resolution
    actor: str
    note: str = ""
    limit: int = 0
    until: int | None = None


def opened(incident_id: bytes, notice: Notice, at: int) -> Incident:
    """Return the incident of a crossing.

    Raises:
        ValueError: The notice names no window (a programmer's error).
    """
    if notice.window is None:
        raise ValueError(notice)
    return Incident(incident_id, notice.window, at, notice.amount)


def resolved(book: Book, incident: Incident, decision: Decision, at: int) -> Incident:
    """Return the incident as decided; a raise is effective for the next authorise.

    The same decision again changes nothing.

    Raises:
        Conflict: It was decided otherwise before.
        InvalidInput: A raise that does not raise, or a time that is not ahead.
    """
    if incident.resolution is not Resolution.OPEN:
        if incident.resolution is decision.resolution:
            return incident
        raise Conflict(f"the incident is {incident.resolution.value} already")
    window = book.windows[incident.window]
    limit_before = window.limit
    if decision.resolution in {Resolution.RAISED, Resolution.RAISED_UNTIL}:
        if decision.limit <= window.settled:
            raise InvalidInput("limit must be above what is spent, or nothing can go on", field="limit")
        is_timed = decision.resolution is Resolution.RAISED_UNTIL
        if is_timed and (decision.until is None or decision.until <= at):
            raise InvalidInput("until must lie ahead", field="until")
        set_window_limit(book, window, decision.limit)
    return msgspec.structs.replace(
        incident,
        resolution=decision.resolution,
        actor=decision.actor,
        note=decision.note,
        limit_before=limit_before,
        until=decision.until,
    )


def taken_back(book: Book, incident: Incident) -> None:
    """End a raise until a time: the window gets the limit it had. Nothing if it is closed."""
    window = book.windows[incident.window]
    if not window.is_closed and window.limit > incident.limit_before:
        set_window_limit(book, window, incident.limit_before)
