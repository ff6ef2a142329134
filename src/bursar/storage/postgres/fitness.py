"""Whether a database can keep what we promise, looked at before anything is written.

server    new enough, takes writes, and keeps what it said it has written
role      one that row-level security binds; else only the statements keep organisations apart
schema    made where there is none, refused where `bursar migrate` has to run first
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import asyncpg

from bursar.core.errors import InvalidInput, Unavailable
from bursar.storage.migrations.steps import postgres_steps
from bursar.storage.postgres import partitions
from bursar.storage.postgres.half_filled import refuse_half_filled
from bursar.storage.postgres.migrate import Applied, applied, migrate
from bursar.storage.postgres.opening import connected, place_of

OLDEST = 140_000
"""The first version with `client_connection_check_interval` and the planner that partitions ask for."""

MIGRATION_S = 60.0
"""How long a start waits for another one that makes the schema."""

FACTS = """SELECT current_setting('server_version_num')::integer AS number,
        split_part(current_setting('server_version'), ' ', 1) AS version,
        current_setting('server_encoding') AS encoding,
        current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
        pg_is_in_recovery() AS is_standby, rolsuper OR rolbypassrls AS is_unbound
    FROM pg_roles WHERE rolname = current_user"""
_LAST_DECIDED = "SELECT coalesce(max(last_at), 0) FROM bursar.decision_clock"


class Fit(NamedTuple):
    """A database that will do.

    Attributes:
        version: Of the server.
        remarks: What is not as it should be, a sentence each.
        last_decided_at: The latest time by which budgets were decided, 0 for none.
    """

    version: str
    remarks: tuple[str, ...]
    last_decided_at: int


async def made_fit(address: str, now: int, *, is_pooled: bool) -> Fit:
    """Look at the database, make its schema if it is empty, and the months to come.

    Args:
        address: `postgresql://…`.
        now: Microseconds UTC.
        is_pooled: Whether a pooler in transaction mode is expected between.

    Raises:
        InvalidInput: The server, or its schema, is not one that this release can work with.
        Conflict: A move or a restore has begun to fill it and not finished.
        Unavailable: It does not answer, or takes no writes at present.
    """
    place = place_of(address)
    async with connected(address) as own, own.transaction():
        facts = await own.fetchrow(FACTS)
        if facts["is_standby"]:
            raise Unavailable(f"the database {place} is a standby and takes no writes; name the primary")
        if not is_pooled and await _is_behind_a_pooler(own):
            raise InvalidInput(
                f"a pooler such as PgBouncer stands before {place}: set database_pooled to true",
                field="database_pooled",
            )
        for fault in faults_of(facts):
            raise InvalidInput(f"the database {place} will not do: {fault}", field="database_url")
        is_empty = await applied(own) is None
    if is_empty:
        await _create(address, place)
    async with connected(address) as own, own.transaction():
        (await applied(own) or Applied([])).check(postgres_steps(), place)
        await refuse_half_filled(own)
        await partitions.make(own, partitions.months_ahead(now))
        await own.execute("SET LOCAL bursar.org = '0'")
        last_decided_at = await own.fetchval(_LAST_DECIDED)
    return Fit(facts["version"], tuple(remarks_on(facts)), last_decided_at)


async def _is_behind_a_pooler(own: asyncpg.Connection) -> bool:
    """Whether who took the connection is another than who answers the statement."""
    return bool(own.get_server_pid() != await own.fetchval("SELECT pg_backend_pid()"))


async def _create(address: str, place: str) -> None:
    try:
        async with asyncio.timeout(MIGRATION_S):
            await migrate(address)
    except TimeoutError as error:
        raise Unavailable(f"another process changes the schema of {place}; try again later") from error


def faults_of(facts: asyncpg.Record) -> Iterator[str]:
    """Yield why the database will not do."""
    if facts["number"] < OLDEST:
        yield f"PostgreSQL {facts['version']} is too old, 14 is the oldest that works"
    if facts["encoding"] != "UTF8":
        yield f"its encoding is {facts['encoding']}; make one with UTF8 (createdb -E UTF8 -T template0)"
    for name in ("fsync", "full_page_writes"):
        if facts[name] != "on":
            yield f"{name} is off, so that a crash may undo or damage what was acknowledged; turn it on"


def remarks_on(facts: asyncpg.Record) -> Iterator[str]:
    """Yield what is not as it should be, though it will do."""
    if facts["is_unbound"]:
        yield (
            "row-level security does not bind the role of database_url: it is a superuser, or has "
            "BYPASSRLS; use a role of its own that owns the database"
        )
