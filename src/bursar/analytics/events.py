"""The values of single events as readers see them: pages of them, and one with its history.

An event is shown as it stands: a revised or repriced one by its last entry, at the time and
with the names that this entry gives. Its older entries are its history.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bursar.analytics.query import Dim, Span
from bursar.core.ids import Org
from bursar.core.usage import RateCard, UsageEvent
from bursar.ledger.rows import EntryRow

PAGE_MAX = 200
"""Most events of one page."""


class Place(NamedTuple):
    """Where an event stands in the order of events: by its time, then by its key."""

    occurred_at: int
    key: bytes


class EventQuery(NamedTuple):
    """Which events to list, newest first.

    Attributes:
        before: Only events that stand before this place; None starts at the newest.
        filters: Names to keep, as in `Query`; without feature, user, provider and billing
            a page is found without reading what lies between its events.
    """

    org: Org
    span: Span
    filters: Mapping[Dim, str] = {}
    before: Place | None = None
    limit: int = 50


class Event(NamedTuple):
    """One event as it stands.

    Attributes:
        row: Its standing figures.
        revision: The caller's last revision of it.
        labels: Names of its dimensions, None where it gives none.
    """

    row: EntryRow
    revision: int
    labels: Mapping[str, str | None]


class EventPage(NamedTuple):
    """Events newest first, and whether older ones follow."""

    events: list[Event]
    has_more: bool


class Step(NamedTuple):
    """One entry of an event's history: what it posted, or took back.

    `seq` is None for the event's first posting, which is its own entry. `sign` is 1 or −1.
    """

    seq: int | None
    sign: int
    revision: int
    reason: str
    row: EntryRow


class EventHistory(NamedTuple):
    """One event with all that explains it: the card that priced it, its entries, its prompt."""

    event: Event
    card: RateCard | None
    steps: list[Step]
    prompt: str | None


class SetAside(NamedTuple):
    """An event that could not be posted: its number, when it came (micros), why, and itself."""

    seq: int
    received_at: int
    reason: str
    event: UsageEvent
