"""What decisions need from a storage engine: one organisation's budgets within one transaction.

Stands beside the decisions, not in `enforcement`, because `ingestion` posts spend within its own
transactions. Methods are coroutines so that engines with a network between can serve them;
SQLite never suspends in them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.alert import Alert
from bursar.budgets.book import Book, Occasion, TrackKey, Writes
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey
from bursar.budgets.incident import Decision, Incident
from bursar.budgets.window import WindowKey
from bursar.core.ids import Org


class Written(NamedTuple):
    """What a commit writes beside a book's `Writes`.

    Attributes:
        at: The deciding time, kept so that a restart does not go behind it.
        gates: Those that changed.
        incidents: Those that were opened or decided.
        alerts: Those that were raised.
    """

    at: int
    gates: Collection[Gate] = ()
    incidents: Collection[Incident] = ()
    alerts: Collection[Alert] = ()


class BudgetStore(Protocol):
    """One organisation's budgets and everything that counts for them.

    A book is loaded once: holds first, then tracks, then the windows of the holds' legs.
    """

    async def active(self) -> Sequence[Budget]:
        """Return the budgets that are not deleted, in order of id."""
        ...

    async def named_between(self, first: bytes, last: bytes) -> Sequence[Budget]:
        """Return the budgets with ids from `first` to `last`, those that have ended too."""
        ...

    async def exists(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of the ids that a budget has, deleted ones included."""
        ...

    async def stamp(self) -> bytes:
        """Return what changes with every change of the active budgets, and never comes back."""
        ...

    async def put(self, budget: Budget) -> None:
        """Store a budget, new or changed."""
        ...

    async def list_excess(self, budget_id: bytes) -> None:
        """List what a budget's windows used beyond their limits as `lowered`: it was soft, and binds now."""
        ...

    async def mark_deleted(self, budget_id: bytes, at: int) -> None:
        """Take a budget out of the active ones; its row stays for its windows' sake."""
        ...

    async def load_holds(self, book: Book, ids: Collection[bytes], keys: Collection[bytes]) -> None:
        """Load the holds with these ids, and those that own these idempotency keys."""
        ...

    async def load_tracks(self, book: Book, tracks: Mapping[TrackKey, Collection[int]]) -> None:
        """Load of each track its latest window and the windows around each given instant."""
        ...

    async def load_legs(self, book: Book) -> None:
        """Load the windows of the legs of all loaded holds."""
        ...

    async def load_leases(self, book: Book) -> None:
        """Load of each open lease the windows that it spends from, to count clients by."""
        ...

    async def load_gates(self, book: Book, keys: Collection[GateKey]) -> None:
        """Load gates; one that nobody ever stopped has no row."""
        ...

    async def has_gates(self) -> bool:
        """Tell whether anything of the organisation was ever stopped."""
        ...

    async def load_running(self, book: Book, budget_id: bytes) -> None:
        """Load every window of a budget that is not closed."""
        ...

    async def holds_among(self, ids: Collection[bytes]) -> Collection[bytes]:
        """Return those of the ids that are a hold's."""
        ...

    async def load_posted(self, book: Book, sources: Collection[bytes]) -> dict[bytes, list[WindowKey]]:
        """Load the windows that these events were posted to; return their keys by source, in order."""
        ...

    async def due_holds(self, at: int, most: int) -> Sequence[bytes]:
        """Return ids of open holds whose time is over at `at`, the longest overdue first."""
        ...

    async def suspended_holds(self, after: bytes, most: int) -> Sequence[bytes]:
        """Return ids of holds in suspense, in order, from behind `after`."""
        ...

    async def due_raises(self, at: int, most: int) -> Sequence[bytes]:
        """Return ids of incidents whose raise until a time is over at `at` and not taken back yet."""
        ...

    async def standing_raises(self, window: WindowKey) -> Sequence[Incident]:
        """Return the incidents of a window whose raise until a time is not taken back yet."""
        ...

    async def load_due(self, book: Book, at: int, quiet_since: int, most: int) -> int:
        """Load open windows that are over at `at`, or runs' without a hold and untouched since.

        Returns how many it loaded: at most `most`, the rest another time.
        """
        ...

    async def incident(self, incident_id: bytes) -> Incident | None:
        """Return an incident."""
        ...

    async def approve(self, approval_id: bytes, incident_id: bytes, decision: Decision, at: int) -> None:
        """Keep what a person decided about an incident."""
        ...

    async def approved(self, incident_id: bytes) -> Decision | None:
        """Return what was decided about an incident, None while it is open."""
        ...

    async def has_alert(self, occasion: Occasion, budget_id: bytes, agent: str) -> bool:
        """Tell whether such an alert was raised for an agent before."""
        ...

    async def write(self, writes: Writes, beside: Written) -> None:
        """Write each window and hold once, and append the postings."""
        ...


class SpendingUnit(Protocol):
    """One organisation's share of the batch's transaction, as far as budgets need it."""

    @property
    def org(self) -> Org:
        """The organisation."""
        ...

    @property
    def budgets(self) -> BudgetStore:
        """Its budgets in storage."""
        ...
