"""`ingestion.admission.AdmissionReader` over the one file."""

from bursar.core.ids import Org
from bursar.storage.sql.ports import Connection, Readers

# Batches are numbered in the order of their commits, so a day's are the last ones: those after the
# newest that was committed before.
_BATCHES = """WITH few AS (SELECT seq, committed_at, events FROM batch
        WHERE org = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?4),
    earlier AS (SELECT max(seq) AS seq FROM few WHERE committed_at < ?3)
    SELECT coalesce(sum(few.events), 0), min(few.seq), max(earlier.seq) FROM earlier LEFT JOIN few
        ON few.seq > coalesce(earlier.seq, -1)"""
_BATCHES_AT_ONCE = 20_000
"""Some 10 ms."""

_SEQ_MAX = 2**63 - 1
# Number 1 stands for those beyond the directory's own bound.
_AGENTS = "SELECT name FROM agent WHERE org = ? AND agent > 1"


class SqlAdmissionReader:
    """Reads on reading connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def events_since(self, org: Org, since: int) -> int:
        """Return how many new events were committed since an instant."""

        def work(connection: Connection) -> int:
            count, lowest = 0, _SEQ_MAX
            while True:
                asked = (org, lowest, since, _BATCHES_AT_ONCE)
                events, first, earlier = connection.execute(_BATCHES, asked).fetchone()
                count += int(events)
                if earlier is not None or first is None:
                    return count
                lowest = first

        return await self._readers.run(org, work)

    async def agent_names(self, org: Org) -> set[str]:
        """Return the names of all known agents."""

        def work(connection: Connection) -> set[str]:
            return {str(row[0]) for row in connection.execute(_AGENTS, (org,))}

        return await self._readers.run(org, work)
