"""What is being read while it changes is not kept, nor what has failed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from bursar.core.ids import Org
from bursar.identity import keys
from bursar.ingestion.admission import Admission
from bursar.ingestion.books import Books
from bursar.storage.sql.marks import Quiet
from bursar.web.principal import Authenticator
from support.fleet import Fleet

ORG = Org(1)


class Slow:
    """Reads that end when they are told to: each gives the state as it was when it began."""

    def __init__(self, state: Callable[[], Any]) -> None:
        self._state = state
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.reads = 0

    async def read(self, *_asked: object) -> Any:  # noqa: ANN401 - whatever the state is
        self.reads += 1
        found = self._state()
        if self.reads == 1:
            self.begun.set()
            await self.go_on.wait()
        return found


async def met(slow: Slow, use: Callable[[], Any], change: Callable[[], None]) -> tuple[Any, Any, Any]:
    """Begin a use, change what it reads, let it end; return what it got and what the next two get."""
    first = asyncio.create_task(use())
    await slow.begun.wait()
    change()
    slow.go_on.set()
    return await first, await use(), await use()


def test_a_price_book() -> None:
    async def books() -> None:
        price = ["old"]
        slow = Slow(lambda: price[0])
        kept = Books(slow.read, Quiet().catch_up)

        def change() -> None:
            price[0] = "new"
            kept.forget(ORG)

        assert await met(slow, lambda: kept.of(ORG), change) == ("old", "new", "new")
        assert slow.reads == 2, "the second one is kept"

    asyncio.run(books())


def test_an_organisation(fleet: Fleet) -> None:
    class Organisations:
        def __init__(self, slow: Slow) -> None:
            self.get = slow.read

    async def admission() -> None:
        found = [await fleet.first.organisations.get(fleet.org)]
        slow = Slow(lambda: found[0])
        organisations: Any = Organisations(slow)
        reader: Any = None
        kept = Admission(organisations, reader, clock=fleet.first.clock)
        await met(slow, lambda: kept.of(ORG), lambda: kept.forget(ORG))
        assert slow.reads == 2

    fleet.run(admission())


def test_a_credential(fleet: Fleet) -> None:
    """A key that is revoked here while it is looked up is refused by the next request."""
    raw = keys.generate("local")

    async def looked_up() -> list[bool]:
        made = await fleet.first.keys.create(fleet.key_of(raw, fleet.org), keys.hash_of(raw), actor="t")
        found = [made]
        slow = Slow(lambda: found[0])

        class Keys:
            find = staticmethod(slow.read)

        store: Any = Keys()
        one = Authenticator(
            store, fleet.first.organisations, "op_none", fleet.first.clock, fleet.first.identity.persons
        )
        headers = [(b"authorization", f"Bearer {raw}".encode())]

        async def is_taken() -> bool:
            try:
                await one.principal(headers)
            except Exception:  # noqa: BLE001 - only whether it was
                return False
            return True

        revoked = await fleet.first.keys.revoke(fleet.org, made.id, at=fleet.first.clock(), actor="t")

        def change() -> None:
            found[0] = revoked
            one.forget()

        return list(await met(slow, is_taken, change))

    assert fleet.run(looked_up()) == [True, False, False]


def test_what_has_failed_is_not_committed_by_whoever_did_not_hear_of_it(fleet: Fleet) -> None:
    async def deaf(transaction: Any) -> None:  # noqa: ANN401 - of any engine
        connection = transaction.unit(fleet.org).connection
        with suppress(asyncpg.PostgresError):
            connection.execute("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="nothing of it was kept"):
        fleet.run(fleet.first.store.transact(deaf))
