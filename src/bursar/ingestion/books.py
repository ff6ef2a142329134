"""The price books of all organisations of one process, loaded on first use.

Whoever changes an organisation's overrides calls `forget`; the next event loads the book
anew. Other processes' changes are heard of before a book is used. A book is immutable, so an
event is priced by one state of the list, never by two.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from bursar.core.ids import Org
from bursar.ingestion.ports import Pricer

BOOKS_MAX = 1_000


class CatchUp(Protocol):
    """Hears of other processes' changes: `storage.sql.engine.Changes.catch_up`."""

    async def __call__(self, *, is_asked: bool = False) -> None:
        """Forget what was changed a second ago, with `is_asked` what was changed until now."""
        ...


class Books:
    """`ingestion.ports.PriceBooks` over a loading function.

    Args:
        load: Reads an organisation's book.
        catch_up: Called before a book is used; calls `forget` where one was changed elsewhere.
    """

    def __init__(self, load: Callable[[Org], Awaitable[Pricer]], catch_up: CatchUp) -> None:
        self._load = load
        self._catch_up = catch_up
        self._books: OrderedDict[Org, Pricer] = OrderedDict()
        self._forgotten = 0

    async def of(self, org: Org) -> Pricer:
        """Return the book of `org`, as it was less than a second ago anywhere.

        Raises:
            Unavailable: The database does not answer, so that nobody knows.
        """
        await self._catch_up()
        return await self._known(org)

    async def latest(self, org: Org) -> Pricer:
        """Return the book of `org` as it is now, wherever it was changed.

        Raises:
            Unavailable: The database does not answer.
        """
        await self._catch_up(is_asked=True)
        return await self._known(org)

    def forget(self, org: Org) -> None:
        """Drop the book of `org`: its overrides changed."""
        self._forgotten += 1
        self._books.pop(org, None)

    async def _known(self, org: Org) -> Pricer:
        book = self._books.get(org)
        if book is None:
            forgotten = self._forgotten
            book = await self._load(org)
            # What was read while it was being changed is good for this once.
            if forgotten == self._forgotten:
                self._books[org] = book
                if len(self._books) > BOOKS_MAX:
                    self._books.popitem(last=False)
        return book
