"""What a proof needs of an engine beyond statements: one state to read for long, sums, its own check.

    Snapshots.read(work)  →  Snapshot: connection, sums, structure  →  `verify`, `verify_slices`

A proof works synchronously in a thread of its own; it may take minutes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from bursar.ledger.verification import Findings
from bursar.storage.sql.ports import Connection

Result = TypeVar("Result")
Row = tuple[Any, ...]


class Unsummable(Exception):
    """A sum leaves 64 bits, or rare units are no JSON: damage. The snapshot can still be read."""


class Rollup(NamedTuple):
    """One table of hourly sums.

    Attributes:
        table: Its name.
        dimensions: Its key's columns after the organisation, the hour first.
        has_spread: Whether it keeps a histogram of durations, first and last time.
    """

    table: str
    dimensions: tuple[str, ...]
    has_spread: bool


ROLLUPS = (
    Rollup("rollup_agent", ("hour", "agent", "model", "billing"), has_spread=True),
    Rollup("rollup_project", ("hour", "project", "model"), has_spread=True),
    Rollup("rollup_feature", ("hour", "feature"), has_spread=False),
    Rollup("rollup_user", ("hour", "user"), has_spread=False),
)
"""Every one, in the order in which `Sums.rollup` is asked for them."""


class Sums(Protocol):
    """What the entries of one snapshot add up to, added by the engine; memory does not grow with them."""

    def group(self, org: int, start: int, end: int) -> None:
        """Add up the entries of a range, which is whole hours, by everything that roll-ups are kept by.

        Raises:
            Unsummable: As every method here, within `Snapshot.summing`.
        """
        ...

    def rollup(self, rollup: Rollup) -> Iterator[Row]:
        """Give a roll-up's sums of the grouped range, by its dimensions ascending; each roll-up in turn.

        Rows have the dimensions and the measures, with a spread the histogram of durations, packed,
        first and last time as well.
        """
        ...

    def gather(self, org: int, start: int, end: int) -> None:
        """Add the entries of a range to what `runs` and `batches` give; in the end, all of `org`."""
        ...

    def runs(self, org: int) -> Iterator[Row]:
        """Give each run of all that was gathered: its id, measures, first and last time; ascending."""
        ...

    def batches(self, org: int) -> Iterator[Row]:
        """Give batch, hour, events and entries of all that was gathered, by batch and hour ascending.

        Events and entries of an hour may come in two rows.
        """
        ...

    def forget(self) -> None:
        """Drop what was gathered."""
        ...


class Snapshot(Protocol):
    """One state of the whole ledger, whatever is written meanwhile. Reads everything, changes nothing."""

    @property
    def connection(self) -> Connection:
        """For statements."""
        ...

    @property
    def sums(self) -> Sums:
        """What the entries add up to."""
        ...

    def renew(self) -> None:
        """Go on with the newest state; no rows of the old one may be left to read."""
        ...

    def joining(self) -> AbstractContextManager[None]:
        """Let a statement join whole tables at once, however small the engine takes them to be."""
        ...

    def summing(self) -> AbstractContextManager[None]:
        """Let sums fail inside as `Unsummable`, so that the proof can go on."""
        ...

    def tables(self) -> list[str]:
        """Return every table with a column `org`, `organisation` apart."""
        ...

    def check_structure(self, findings: Findings) -> None:
        """Check what holds the rows: pages, keys and indexes, as far as the engine can."""
        ...


class Snapshots(Protocol):
    """One ledger, read by whoever proves it."""

    def read(self, work: Callable[[Snapshot], Result], findings: Findings) -> Result | None:
        """Return what `work` gives on a new snapshot, in this thread.

        Rows that cannot be read for damage are a violation: then None.

        Raises:
            InvalidInput: There is no ledger, or one of another release's schema.
            Unavailable: It cannot be read here and now, or not to its end.
        """
        ...

    @property
    def is_reading(self) -> bool:
        """Whether a `read` is under way."""
        ...

    def interrupt(self) -> None:
        """Let the `read` that is under way in another thread end soon, by raising `Unavailable`."""
        ...
