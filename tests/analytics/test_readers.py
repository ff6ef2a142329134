"""Reader threads: a bound on what waits, one snapshot a call, the loop free meanwhile."""

import asyncio
import sqlite3
import threading

import pytest
from written_ledger import NOW, WrittenLedger, call

from bursar.core.errors import StorageFull, Unavailable
from bursar.storage.sqlite.readers import WAITING_MAX, SqliteReaders, fetch

COUNT = "SELECT count(*) AS n FROM event WHERE org = :org"


async def test_a_call_too_many_is_refused_at_once_and_the_others_are_answered(ledger: WrittenLedger) -> None:
    readers = SqliteReaders(ledger.store.reader)
    gate = threading.Event()
    waiting = [asyncio.create_task(readers.run(lambda _: gate.wait(10))) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await readers.run(lambda _: None)
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await readers.run(lambda _: "again") == "again"
    readers.close()


def test_a_call_sees_one_moment_whatever_is_committed_meanwhile(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    ledger.record(org, [call(NOW)])

    def twice(connection: sqlite3.Connection) -> list[object]:
        first = fetch(connection, COUNT, ["n"], {"org": org})
        ledger.record(org, [call(NOW + 1)])
        return [first, fetch(connection, COUNT, ["n"], {"org": org})]

    assert ledger.readers.run_short(twice) == [[(1,)], [(1,)]]
    assert ledger.readers.run_short(lambda c: fetch(c, COUNT, ["n"], {"org": org})) == [(2,)]


def test_a_reader_cannot_write_and_its_connection_serves_the_next_call(ledger: WrittenLedger) -> None:
    with pytest.raises(StorageFull, match="readonly"):
        ledger.readers.run_short(lambda c: c.execute("DELETE FROM event"))
    assert ledger.readers.run_short(lambda c: fetch(c, COUNT, ["n"], {"org": 0})) == [(0,)]
