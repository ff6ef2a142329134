"""The ledger in PostgreSQL: keys are taken, rows and sums written, a batch at a time."""

from collections.abc import Sequence

from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.ingestion.ports import Claim
from bursar.ledger.posting import Posting
from bursar.storage.postgres.partitions import Months
from bursar.storage.sql.ledger import SqlLedger
from bursar.storage.sql.ports import Connection

_CLAIM = """INSERT INTO event_key (org, key, occurred_at, revision)
    SELECT ?, one.key, one.occurred_at, one.revision
    FROM unnest(?::bytea[], ?::bigint[], ?::bigint[]) AS one (key, occurred_at, revision)
    ON CONFLICT DO NOTHING RETURNING key"""


class PostgresLedger(SqlLedger):
    """`ingestion.ports.LedgerWriter` within a transaction that holds the organisation's lock."""

    def __init__(self, connection: Connection, org: Org, months: Months) -> None:
        super().__init__(connection, org)
        self._months = months

    async def claim(self, events: Sequence[UsageEvent]) -> Claim:
        """Take the keys that are new; the database says which."""
        first: dict[bytes, UsageEvent] = {}
        for event in events:
            first.setdefault(event.key, event)
        columns = ([e.key for e in first.values()], [e.occurred_at for e in first.values()])
        revisions = [e.revision for e in first.values()]
        taken = {row[0] for row in self.connection.execute(_CLAIM, (self.org, *columns, revisions))}
        if len(taken) == len(events):
            return Claim(range(len(events)), ())
        fresh: list[int] = []
        known: list[int] = []
        for index, event in enumerate(events):
            (fresh if event.key in taken else known).append(index)
            taken.discard(event.key)
        return Claim(fresh, known)

    async def append(self, posting: Posting, prompts: Sequence[UsageEvent]) -> None:
        """Write the event rows in their months, what they add to roll-ups, and prompts."""
        await self._months.ensure({hour for hour, *_ in posting.rollups.by_agent})
        await super().append(posting, prompts)
