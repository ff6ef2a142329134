"""Reader threads: a bound on what waits, one snapshot a call, the loop free meanwhile."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from written_ledger import NOW, WrittenLedger, call

from bursar.core.errors import StorageFull, Unavailable
from bursar.core.ids import Org
from bursar.storage.sql.ports import Connection
from bursar.storage.sqlite.readers import WAITING_MAX, SqliteReaders

COUNT = "SELECT count(*) AS n FROM event WHERE org = :org"


async def test_a_call_too_many_is_refused_at_once_and_the_others_are_answered(ledger: WrittenLedger) -> None:
    readers = SqliteReaders(ledger.store.reader)
    gate = threading.Event()
    waiting = [asyncio.create_task(readers.run(Org(1), lambda _: gate.wait(10))) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await readers.run(Org(1), lambda _: None)
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await readers.run(Org(1), lambda _: "again") == "again"
    readers.close()


def counted(ledger: WrittenLedger, org: Org) -> list[tuple[object, ...]]:
    return ledger.read(org, lambda c: c.listed(COUNT, ["n"], {"org": org}))


def test_a_call_sees_one_moment_whatever_is_committed_meanwhile(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    ledger.record(org, [call(NOW)])
    looked, written = threading.Event(), threading.Event()

    def twice(connection: Connection) -> list[object]:
        first = connection.listed(COUNT, ["n"], {"org": org})
        looked.set()
        assert written.wait(10)
        return [first, connection.listed(COUNT, ["n"], {"org": org})]

    async def read() -> list[object]:
        return await ledger.readers.run(org, twice)

    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(asyncio.run, read())
        assert looked.wait(10)
        ledger.record(org, [call(NOW + 1)])
        written.set()
    assert found.result() == [[(1,)], [(1,)]]
    assert counted(ledger, org) == [(2,)]


def test_a_reader_cannot_write_and_its_connection_serves_the_next_call(ledger: WrittenLedger) -> None:
    with pytest.raises(StorageFull, match="readonly"):
        ledger.read(Org(1), lambda c: c.execute("DELETE FROM event"))
    assert counted(ledger, Org(0)) == [(0,)]
