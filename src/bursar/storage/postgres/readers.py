"""Reads from PostgreSQL, each on one snapshot: `storage.sql.ports.Readers`."""

from collections.abc import Callable
from typing import TypeVar

from bursar.core.errors import Unavailable
from bursar.core.ids import Org
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.postgres.errors import is_ended, translated_errors
from bursar.storage.postgres.pool import Pool
from bursar.storage.postgres.suspension import in_worker

Result = TypeVar("Result")

WAITING_MAX = 256
"""Calls under way or waiting; at 10 ms each the last one has waited about a second."""


class PostgresReaders:
    """Reads on two pools of read-only transactions: reports, and short ones that go past them."""

    def __init__(self, reports: Pool, short: Pool) -> None:
        self._reports = reports
        self._short = short
        self._waiting = 0

    async def run(self, org: Org, work: Callable[[PostgresConnection], Result]) -> Result:
        """Return what `work` reads from one snapshot.

        Raises:
            Unavailable: `WAITING_MAX` calls are under way already, or the database does not answer.
        """
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many reports are being read; try again")
        self._waiting += 1
        try:
            return await _read(self._reports, org, work)
        finally:
            self._waiting -= 1

    async def run_short(self, org: Org, work: Callable[[PostgresConnection], Result]) -> Result:
        """Do the same for a bounded number of seeks."""
        return await _read(self._short, org, work)


async def _read(pool: Pool, org: Org, work: Callable[[PostgresConnection], Result]) -> Result:
    with translated_errors():
        try:
            return await _once(pool, org, work)
        except Exception as error:
            if not is_ended(error):
                raise
            # A read changes nothing, and mostly the connection was ended while it lay idle.
            return await _once(pool, org, work)


async def _once(pool: Pool, org: Org, work: Callable[[PostgresConnection], Result]) -> Result:
    async with pool.connection() as own:
        try:
            await own.execute(f"{pool.begin}; SET LOCAL bursar.org = '{int(org)}'")
            result = await in_worker(lambda: work(PostgresConnection(own)))
            await own.execute("COMMIT")
        except BaseException as error:
            await pool.undo(own, error)
            raise
    return result
