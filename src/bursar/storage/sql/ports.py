"""What every SQL engine gives the statements of this package, and how they may use it.

    engine (sqlite, postgres)  →  Connection, Readers, Store  →  the modules beside this one

Statements are written once, in the SQL that both engines share; where they have none in
common, a `Dialect` has the words. Everything here looks synchronous: an engine with a
network between suspends the caller beneath `execute`, so code must not keep a lock of its
own across one. A statement sees rows of its organisation only: PostgreSQL's row-level
security is told which one by `Readers.run`, `Transaction.unit` and so on.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from bursar.core.ids import Org
from bursar.storage.sql.dialect import Dialect

Result = TypeVar("Result")
Cell = int | str | None
Value = int | bytes | str | None
Parameters = Mapping[str, Value]

EVERY_ORG = Org(0)
"""For `Readers.run` and `Transaction.everywhere`: global tables, and rows of all organisations."""


class Row(Protocol):
    """One row: by position, by column name, and as a sequence."""

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - a column's type is the statement's
        """Return one column."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the columns."""
        ...

    def __len__(self) -> int:
        """Return how many columns there are."""
        ...


class Rows(Protocol):
    """What a statement gave; read once, forwards."""

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE changed."""
        ...

    def fetchone(self) -> Any:  # noqa: ANN401 - a `Row` or None; its columns are the statement's
        """Return the next row, None after the last."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""
        ...


class Connection(Protocol):
    """A connection within a transaction that somebody else began and will end."""

    @property
    def dialect(self) -> Dialect:
        """The engine's words where the two have none in common."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run one statement. Parameters are `?`, `?1` or `:name`, as SQLite writes them."""
        ...

    def stream(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a SELECT, however many, a portion at a time; they end with the transaction."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        """Run one statement for each row of parameters; the changes are not counted."""
        ...

    def listed(self, sql: str, columns: Iterable[str], parameters: Parameters) -> list[tuple[Cell, ...]]:
        """Return `columns` of every row of `sql`, fetched at once.

        Args:
            sql: A SELECT; its order is kept.
            columns: SQL over its columns, whose table is `r`; numbers and text only.
            parameters: By name.

        Raises:
            AmountOverflow: A sum leaves 64 bits, and the engine has no wider numbers.
        """
        ...


class Readers(Protocol):
    """Reads, each on one snapshot."""

    async def run(self, org: Org, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` reads of `org` (`EVERY_ORG` for all) on one snapshot; it may take long.

        Raises:
            Unavailable: Too many reads are under way, or the engine does not answer.
        """
        ...

    async def run_short(self, org: Org, work: Callable[[Connection], Result]) -> Result:
        """Do the same for a bounded number of seeks: it goes past the long reads."""
        ...


class Unit(Protocol):
    """One organisation within one transaction: the units of `ingestion` and `enforcement`, and its rows."""

    @property
    def org(self) -> Org:
        """The organisation that every statement is bound to."""
        ...

    @property
    def connection(self) -> Connection:
        """For statements of this package: rows of this organisation, and global tables."""
        ...

    async def record(self, entry: Any) -> None:  # noqa: ANN401 - `core.audit.AuditEntry`
        """Append to the organisation's audit log."""
        ...


class Transaction(Protocol):
    """One commit. An engine with many writers locks each organisation that is named, until the commit.

    The order of locks is the same for everybody: `everywhere` first, then organisations
    by number; whoever needs several asks for them in this order.
    """

    @property
    def everywhere(self) -> Connection:
        """For global tables and for rows of many organisations, one such transaction at a time."""
        ...

    def unit(self, org: Org) -> Any:  # noqa: ANN401 - each engine's own class, which has all of `Unit`
        """Return the share of `org`."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what happens inside when it raises, and only that."""
        ...


class Store(Protocol):
    """An engine's writing side."""

    @property
    def commits_apart(self) -> bool:
        """Whether organisations do not wait for each other, so that a commit is best one organisation's."""
        ...

    @property
    def together_max(self) -> int:
        """How many questions of budgets one commit decides at most."""
        ...

    async def transact(self, work: Callable[[Any], Awaitable[Result]], *, is_large: bool = False) -> Result:
        """Run `work` with a `Transaction`; commit durably before returning its result.

        An engine that has to undo it for another's sake may run `work` a second time.

        Raises:
            StorageFull: The disk is full; nothing was written.
            Unavailable: The engine does not answer; nothing was written, or its answer to
                the commit was lost: a repeat with the same keys finds out.
        """
        ...
