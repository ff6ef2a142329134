"""What other processes have marked as changed: `storage.sql.engine.Changes`.

A mark carries the number of the transaction that made it. Whoever asks remembers the oldest
transaction that was still open (the snapshot's xmin): whatever it could not see yet has that
number or a later one. So nothing is missed and nothing has to be sent: one small query, at most
every `HEARD_S`, and none while nobody uses what is kept.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable

from bursar.core.ids import Org
from bursar.storage.sql.marks import Forget, Kept
from bursar.storage.sql.ports import EVERY_ORG, Connection, Readers

HEARD_S = 0.4
"""How old may be what a process knows of the others' changes when it uses what it keeps."""

_ASK = """SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, m.org, m.kind, m.xact
    FROM (VALUES (1)) AS always (one) LEFT JOIN change_mark AS m ON m.xact >= ?"""

_NEVER = 2**63 - 1
"""Before the first question nothing is kept, so that no mark concerns this process."""

Found = list[tuple[int, int | None, str | None, int | None]]


class Marks:
    """`storage.sql.engine.Changes` over a database of many processes.

    Args:
        readers: Of the database.
        monotonic: Seconds of a clock that never steps.
    """

    def __init__(self, readers: Readers, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._readers = readers
        self._monotonic = monotonic
        self._forget: defaultdict[str, list[Forget]] = defaultdict(list)
        self._heard_at = float("-inf")
        self._since = _NEVER
        self._known: dict[tuple[int | None, str | None], int | None] = {}
        self._asking: asyncio.Task[None] | None = None

    def on(self, kept: Kept, forget: Forget) -> None:
        """Call `forget` with each organisation whose `kept` was changed."""
        self._forget[kept.value].append(forget)

    async def catch_up(self, *, is_asked: bool = False) -> None:
        """Hear what was changed until `HEARD_S` ago, with `is_asked` until now.

        Raises:
            Unavailable: The database does not answer: what is kept must not be used.
        """
        if not is_asked and self._monotonic() - self._heard_at < HEARD_S:
            return
        asking = self._asking
        if is_asked or asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking = asyncio.create_task(self._ask())
        # One caller that goes away must not leave the others without an answer.
        await asyncio.shield(asking)

    async def _ask(self) -> None:
        asked_at, since = self._monotonic(), self._since

        def read(connection: Connection) -> Found:
            return [tuple(row) for row in connection.execute(_ASK, (since,))]

        found = await self._readers.run_short(EVERY_ORG, read)
        known = {(org, kind): xact for _, org, kind, xact in found}
        for place, xact in known.items():
            org, kind = place
            if org is not None and kind is not None and self._known.get(place) != xact:
                for forget in self._forget[kind]:
                    forget(Org(org))
        # A long transaction keeps marks in sight that were heard of already.
        self._known = known
        oldest_open = found[0][0]
        self._since = oldest_open if since == _NEVER else max(self._since, oldest_open)
        self._heard_at = max(self._heard_at, asked_at)
