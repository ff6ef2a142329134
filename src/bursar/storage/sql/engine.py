"""An open database as `wiring` sees it: what differs between engines beyond their statements."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from bursar.ledger.ports import LedgerAuditor
from bursar.storage.sql.marks import Forget, Kept
from bursar.storage.sql.ports import Readers, Store
from bursar.storage.sql.verify_ports import Snapshots


class Changes(Protocol):
    """What other processes change of that which this one keeps in memory."""

    def on(self, kept: Kept, forget: Forget) -> None:
        """Call `forget` with each organisation whose `kept` was changed."""
        ...

    async def catch_up(self, *, is_asked: bool = False) -> None:
        """Hear of every change that was committed a second ago, with `is_asked` of every one until now.

        To be called before something that is kept is used; it costs next to nothing.

        Raises:
            Unavailable: The database does not answer: what is kept must not be used.
        """
        ...


class Engine(Protocol):
    """One process's database."""

    @property
    def version(self) -> str:
        """Name and version, such as `sqlite 3.45.1` or `postgresql 15.18`."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not as it should be with an open database, a sentence each."""
        ...

    @property
    def store(self) -> Store:
        """Its writing side."""
        ...

    @property
    def readers(self) -> Readers:
        """Its reading side."""
        ...

    @property
    def changes(self) -> Changes:
        """What other processes change."""
        ...

    def open(self) -> None:
        """Bring the schema up to date, or refuse a database that cannot keep the promises.

        Raises:
            Unavailable: It cannot be opened here and now.
            InvalidInput: Its settings, or its schema, are not those that this release needs.
        """
        ...

    async def close(self) -> None:
        """Close everything."""
        ...

    async def answers(self) -> bool:
        """Whether it can be read at this moment; says so within five seconds."""
        ...

    def last_decided_at(self) -> int:
        """Return the latest time by which budgets were decided, as far as it is known: 0 for none."""
        ...

    def hear_decisions(self, hear: Callable[[int], None]) -> None:
        """Have `hear` told, within each transaction that decides, by which time others have decided."""
        ...

    async def make_room(self) -> None:
        """Prepare for the time to come what the engine wants to have ready; to be called every hour."""
        ...

    def snapshots(self) -> Snapshots:
        """Return what proves the whole ledger."""
        ...

    def auditor(self, clock: Callable[[], int]) -> LedgerAuditor:
        """Return what proves the ledger beside its work."""
        ...

    def leading(self, job: str) -> AbstractAsyncContextManager[bool]:
        """Tell whether this process may run `job` now, and keep others from it meanwhile."""
        ...
