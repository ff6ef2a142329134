"""Taking a batch's keys in SQLite.

Keys go in first, optimistically: `INSERT OR IGNORE` of the whole batch, and only if fewer
rows appeared than were sent are the known ones looked up. Nearly every batch is all new.
"""

from collections.abc import Sequence

from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.ingestion.ports import Claim
from bursar.storage.sql.ledger import SqlLedger
from bursar.storage.sqlite.connection import SqliteConnection

_CLAIM = "INSERT OR IGNORE INTO event_key (org, key, occurred_at, revision) VALUES (?, ?, ?, ?)"
_HAS_EVENT = """SELECT 1 FROM event_key k JOIN event e USING (org, occurred_at, key)
    WHERE k.org = ? AND k.key = ?"""


class SqliteLedger(SqlLedger):
    """`ingestion.ports.LedgerWriter` on the writer connection."""

    def __init__(self, connection: SqliteConnection, org: Org) -> None:
        super().__init__(connection, org)
        self._own = connection

    async def claim(self, events: Sequence[UsageEvent]) -> Claim:
        """Take the keys that are new; look the others up only when there are any."""
        connection, org = self._own, self.org
        before = connection.total_changes
        connection.executemany(_CLAIM, [(org, e.key, e.occurred_at, e.revision) for e in events])
        if connection.total_changes - before == len(events):
            return Claim(range(len(events)), ())
        fresh: list[int] = []
        known: list[int] = []
        seen: set[bytes] = set()
        for index, event in enumerate(events):
            # A key taken just now has no event row yet: that tells ours from older ones.
            taken = event.key in seen or connection.execute(_HAS_EVENT, (org, event.key)).fetchone()
            seen.add(event.key)
            (known if taken else fresh).append(index)
        return Claim(fresh, known)
