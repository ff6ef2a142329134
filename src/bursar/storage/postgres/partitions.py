"""Months of `event`: made ahead of time, and when an event of another month comes.

A month is made as a table of its own and then attached: that waits for no insert, and no
insert waits for it. There is no default partition, since attaching would have to search it
under a lock that stops every insert.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from typing import NamedTuple

import asyncpg

from bursar.storage.migrations.baseline import EARLY_TO, LATE_FROM, fence
from bursar.storage.postgres import locks
from bursar.storage.postgres.opening import connected

AHEAD = 3
LOCK_MS = 4_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUNDS = """SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'bursar.event'::regclass"""
_NAMES = "SELECT relname FROM pg_class WHERE relnamespace = 'bursar'::regnamespace"
_STARTS_AT = re.compile(r"FROM \('(\d+)'\)")


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
    moment = _EPOCH + timedelta(microseconds=at)
    return Month(moment.year, moment.month)


def months_ahead(now: int, ahead: int = AHEAD) -> list[Month]:
    """Return the month of `now` and those that follow."""
    found = [month_of(now)]
    for _ in range(ahead):
        found.append(found[-1].following)
    return found


class Months:
    """Which partitions are known to be there; makes others when an event asks for one.

    They are made on a connection of their own and committed at once: a batch that is undone
    later leaves an empty month behind, and no lock of a long transaction is waited for.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._known: set[Month] = set()

    async def ensure(self, instants: Iterable[int]) -> None:
        """See to it that events of these instants have a place, microseconds UTC."""
        missing = {month_of(at) for at in instants} - self._known
        if not missing:
            return
        await self._make(missing)

    async def make_ahead(self, now: int) -> None:
        """Make the months that will be needed next."""
        await self._make(months_ahead(now))

    async def _make(self, months: Collection[Month]) -> None:
        async with connected(self._address) as own, own.transaction():
            await own.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            await make(own, months)
        self._known.update(months)

    def forget(self) -> None:
        """Ask the database again: a month was taken away."""
        self._known.clear()


def is_without_month(error: asyncpg.CheckViolationError) -> bool:
    """Whether a row was refused since its month is not there."""
    return "no partition of relation" in str(error)


async def make(own: asyncpg.Connection, months: Iterable[Month]) -> list[str]:
    """Make the partitions that are missing; return their names. Within a transaction of the caller's."""
    await own.execute(f"SELECT pg_advisory_xact_lock{locks.MONTHS}")
    bounds = [_STARTS_AT.search(row[0]) for row in await own.fetch(_BOUNDS)]
    there = {int(bound[1]) for bound in bounds if bound}
    taken = {row[0] for row in await own.fetch(_NAMES)}
    made = []
    for month in sorted(set(months)):
        if EARLY_TO <= month.starts_at < LATE_FROM and month.starts_at not in there:
            name = _free_name(month.table, taken)
            await own.execute("; ".join(_statements(month, f"bursar.{name}")))
            made.append(name)
    return made


def _free_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, or another one while a month that was detached has it still."""
    others = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain([name], others) if one not in taken)


def _statements(month: Month, table: str) -> list[str]:
    first, following = month.starts_at, month.following.starts_at
    return [
        f"CREATE TABLE {table} (LIKE bursar.event INCLUDING ALL)",
        *fence(table),
        f"ALTER TABLE bursar.event ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({following})",
    ]
