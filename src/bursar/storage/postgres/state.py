"""What can be said of a database without opening it for writing: for `bursar doctor`."""

import asyncio
import time
from typing import NamedTuple

from bursar.core.errors import AppError
from bursar.storage.migrations.steps import postgres_steps
from bursar.storage.postgres.fitness import FACTS, faults_of, remarks_on
from bursar.storage.postgres.migrate import Applied, applied
from bursar.storage.postgres.opening import connected, place_of

_ROOM = """SELECT current_setting('max_connections')::integer AS most,
        current_setting('synchronous_commit') AS synchronous_commit,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
        extract(epoch FROM clock_timestamp())::float8 AS now"""


class DatabaseState(NamedTuple):
    """Where a database stands.

    Attributes:
        place: Host, port and name.
        version: Of the server.
        fault: Why it cannot be used at all, a sentence; empty when it can.
        remarks: What is not as it should be, a sentence each.
        schema: The newest step that was run; None for none.
        newest_schema: The newest step this release knows.
        missing: How many of the steps that a start needs were not run.
        is_newer: Whether a newer release has finished its upgrade.
        is_durable: Whether a commit is on the disk before it is told.
        connections: Those in use by anybody.
        connections_max: Those that the server allows.
        clock_ahead_s: How far its clock is ahead of this machine's.
    """

    place: str
    version: str = ""
    fault: str = ""
    remarks: tuple[str, ...] = ()
    schema: str | None = None
    newest_schema: str = ""
    missing: int = 0
    is_newer: bool = False
    is_durable: bool = True
    connections: int = 0
    connections_max: int = 0
    clock_ahead_s: float = 0.0


def database_state(address: str) -> DatabaseState:
    """Return the state of the database at `address`, looked at in one connection."""
    try:
        return asyncio.run(_look(address))
    except AppError as error:
        return DatabaseState(place_of(address), fault=error.detail)


async def _look(address: str) -> DatabaseState:
    steps = postgres_steps()
    async with connected(address, "bursar doctor") as own:
        facts = await own.fetchrow(FACTS)
        begun = time.time()
        room = await own.fetchrow(_ROOM)
        here = (begun + time.time()) / 2
        history = await applied(own) or Applied([])
    try:
        history.check(steps, place_of(address))
        is_newer = False
    except AppError:
        is_newer = not history.missing(steps)
    return DatabaseState(
        place=place_of(address),
        version=facts["version"],
        fault="; ".join(faults_of(facts)),
        remarks=tuple(remarks_on(facts)),
        schema=max(history.at, default=None),
        newest_schema=steps[-1].name,
        missing=len(history.missing(steps)),
        is_newer=is_newer,
        is_durable=room["synchronous_commit"] not in {"off", "local"},
        connections=room["used"],
        connections_max=room["most"],
        clock_ahead_s=room["now"] - here,
    )
