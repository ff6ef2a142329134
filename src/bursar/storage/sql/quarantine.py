"""Events that could not be posted, kept aside with the reason: listed, never dropped."""

import msgspec

from bursar.analytics.events import SetAside
from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.storage.sql.ports import Connection, Readers

_PAGE = """SELECT seq, received_at, reason, body FROM quarantine
    WHERE org = ? AND seq < ? ORDER BY seq DESC LIMIT ?"""
_SEQ_MAX = 2**63 - 1


class SqlQuarantine:
    """`analytics.ports.QuarantineReader` over the one file."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def quarantined(self, org: Org, *, before: int | None, limit: int) -> list[SetAside]:
        """Return the newest events set aside before number `before`, at most `limit`."""

        def work(connection: Connection) -> list[SetAside]:
            rows = connection.execute(_PAGE, (org, before or _SEQ_MAX, limit))
            return [
                SetAside(seq, at, reason, msgspec.json.decode(body, type=UsageEvent))
                for seq, at, reason, body in rows
            ]

        return await self._readers.run(org, work)
