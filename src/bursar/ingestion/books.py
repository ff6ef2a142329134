"""The price books of all organisations of one process, loaded on first use.

Whoever changes an organisation's overrides calls `forget`; the next event loads the book
anew. A book is immutable, so an event is priced by one state of the list, never by two.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from bursar.core.ids import Org
from bursar.ingestion.ports import Pricer

BOOKS_MAX = 1_000


class Books:
    """`ingestion.ports.PriceBooks` over a loading function."""

    def __init__(self, load: Callable[[Org], Awaitable[Pricer]]) -> None:
        self._load = load
        self._books: OrderedDict[Org, Pricer] = OrderedDict()

    async def of(self, org: Org) -> Pricer:
        """Return the book of `org`."""
        book = self._books.get(org)
        if book is None:
            book = self._books[org] = await self._load(org)
            if len(self._books) > BOOKS_MAX:
                self._books.popitem(last=False)
        return book

    def forget(self, org: Org) -> None:
        """Drop the book of `org`: its overrides changed."""
        self._books.pop(org, None)
