"""Reads: a bound on what waits, one snapshot a call, the loop free meanwhile."""

import asyncio

import pytest
from written_ledger import NOW, WrittenLedger, call

from bursar.core.errors import StorageFull, Unavailable
from bursar.core.ids import Org
from bursar.storage.postgres import readers as postgres_readers
from bursar.storage.sql.ports import Connection
from bursar.storage.sqlite import readers as sqlite_readers

COUNT = "SELECT count(*) AS n FROM event WHERE org = :org"
WAITING_MAX = max(sqlite_readers.WAITING_MAX, postgres_readers.WAITING_MAX)


def counted(ledger: WrittenLedger, org: Org) -> list[tuple[object, ...]]:
    return ledger.read(org, lambda c: c.listed(COUNT, ["n"], {"org": org}))


def test_a_call_too_many_is_refused_at_once_and_the_others_are_answered(ledger: WrittenLedger) -> None:
    org = Org(1)

    async def overrun() -> None:
        loop, gate = asyncio.get_running_loop(), asyncio.Event()

        def wait(_: Connection) -> bool:
            return ledger.database.meanwhile(gate.wait(), loop)

        waiting = [asyncio.create_task(ledger.readers.run(org, wait)) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await ledger.readers.run(org, lambda _: None)
        gate.set()
        assert all(await asyncio.gather(*waiting))
        assert await ledger.readers.run(org, lambda _: "again") == "again"

    ledger.wait(overrun())


def test_a_call_sees_one_moment_whatever_is_committed_meanwhile(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    ledger.record(org, [call(NOW)])

    async def read() -> list[object]:
        loop = asyncio.get_running_loop()

        def twice(connection: Connection) -> list[object]:
            first = connection.listed(COUNT, ["n"], {"org": org})
            ledger.database.meanwhile(ledger.write(org, [call(NOW + 1)]), loop)
            return [first, connection.listed(COUNT, ["n"], {"org": org})]

        return await ledger.readers.run(org, twice)

    assert ledger.wait(read()) == [[(1,)], [(1,)]]
    assert counted(ledger, org) == [(2,)]


def test_a_reader_cannot_write_and_its_connection_serves_the_next_call(ledger: WrittenLedger) -> None:
    with pytest.raises((StorageFull, Unavailable), match=r"(?i)read-?only"):
        ledger.read(Org(1), lambda c: c.execute("DELETE FROM event"))
    assert counted(ledger, Org(0)) == [(0,)]
