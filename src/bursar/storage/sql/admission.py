"""`ingestion.admission.AdmissionReader` over the one file."""

from bursar.core.ids import Org
from bursar.storage.sql.ports import Connection, Readers

# Batches are numbered in the order of their commits, so a day's are the last ones.
_BATCHES = "SELECT committed_at, events FROM batch WHERE org = ? ORDER BY seq DESC"
# Number 1 stands for those beyond the directory's own bound.
_AGENTS = "SELECT name FROM agent WHERE org = ? AND agent > 1"


class SqlAdmissionReader:
    """Reads on reading connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def events_since(self, org: Org, since: int) -> int:
        """Return how many new events were committed since an instant."""

        def work(connection: Connection) -> int:
            count = 0
            for committed_at, events in connection.execute(_BATCHES, (org,)):
                if committed_at < since:
                    break
                count += events
            return count

        return await self._readers.run(org, work)

    async def agent_names(self, org: Org) -> set[str]:
        """Return the names of all known agents."""

        def work(connection: Connection) -> set[str]:
            return {str(row[0]) for row in connection.execute(_AGENTS, (org,))}

        return await self._readers.run(org, work)
