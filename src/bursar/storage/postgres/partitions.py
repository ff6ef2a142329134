"""Months of `event`: made ahead of time, and when an event of another month comes.

A month is made as a table of its own and then attached: that waits for no insert, and no
insert waits for it. There is no default partition, since attaching would have to search it
under a lock that stops every insert.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from bursar.core.time import MICROS_PER_SECOND
from bursar.storage.migrations.baseline import fence

MONTHS_LOCK = (0x627273, -2)
"""Of the advisory lock under which months are made, one process at a time."""

AHEAD = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXISTING = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'bursar.event'::regclass"""


class Month(NamedTuple):
    """A calendar month of UTC."""

    year: int
    month: int

    @property
    def table(self) -> str:
        """The name of its partition."""
        return f"event_{self.year:04}_{self.month:02}"

    @property
    def following(self) -> "Month":
        """The month after it."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def starts_at(self) -> int:
        """Microseconds UTC."""
        since = datetime(self.year, self.month, 1, tzinfo=UTC) - _EPOCH
        return since // timedelta(microseconds=1)


def month_of(at: int) -> Month:
    """Return the month that holds `at`, microseconds UTC."""
    moment = datetime.fromtimestamp(at // MICROS_PER_SECOND, UTC)
    return Month(moment.year, moment.month)


def months_ahead(now: int, count: int = AHEAD) -> list[Month]:
    """Return the month of `now` and those that follow."""
    found = [month_of(now)]
    for _ in range(count):
        found.append(found[-1].following)
    return found


async def make(own: asyncpg.Connection, months: Iterable[Month]) -> list[str]:
    """Make the partitions that are missing; return their names. Within a transaction of the caller's."""
    first, second = MONTHS_LOCK
    await own.execute(f"SELECT pg_advisory_xact_lock({first}, {second})")
    there = {row[0] for row in await own.fetch(_EXISTING)}
    made = []
    for month in sorted(set(months)):
        if month.table not in there:
            await own.execute("; ".join(_statements(month)))
            made.append(month.table)
    return made


def _statements(month: Month) -> list[str]:
    table, bounds = f"bursar.{month.table}", (month.starts_at, month.following.starts_at)
    return [
        f"CREATE TABLE {table} (LIKE bursar.event INCLUDING ALL)",
        *fence(table),
        f"ALTER TABLE bursar.event ATTACH PARTITION {table} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})",
    ]
