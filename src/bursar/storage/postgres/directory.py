"""Names in PostgreSQL: those of a batch that are not known yet are looked up, and made, together."""

from collections.abc import Iterable, Sequence

from bursar.core.usage import Subject, UsageEvent
from bursar.ledger.rows import Refs
from bursar.storage.sql.directory import OTHER, SqlDirectory

_AMONG = {
    "agent": "SELECT name, agent FROM agent WHERE org = ? AND name = ANY(?::text[])",
    "project": "SELECT name, project FROM project WHERE org = ? AND name = ANY(?::text[])",
    "feature": "SELECT name, feature FROM feature WHERE org = ? AND name = ANY(?::text[])",
    "user": "SELECT name, user FROM user_label WHERE org = ? AND name = ANY(?::text[])",
}


class PostgresDirectory(SqlDirectory):
    """`ingestion.ports.DirectoryWriter` within a transaction that holds the organisation's lock."""

    async def resolve(self, events: Sequence[UsageEvent]) -> Sequence[Refs]:
        """Return the row numbers of each event's names, making what is new."""
        known = self._cache.subjects
        new = {event.subject for event in events if event.subject not in known}
        if len(new) > 1:
            self._make(new)
        return await super().resolve(events)

    def _make(self, subjects: Iterable[Subject]) -> None:
        """Look up, or make, the names of subjects that nobody has met."""
        for kind in _AMONG:
            names = sorted({getattr(one, kind) for one in subjects} - {""})
            unknown = [name for name in names if (kind, name) not in self._cache.names]
            if len(unknown) > 1:
                self._make_all(kind, unknown)

    def _make_all(self, kind: str, names: Sequence[str]) -> None:
        """Enter names of one kind, up to its cap; those beyond it are found to be so one by one."""
        for name, number in self._connection.execute(_AMONG[kind], (self._org, list(names))):
            self._keep((kind, name), number)
        new = [name for name in names if (kind, name) not in self._cache.names]
        first = self._next(kind) if new else None
        if first is None:
            return
        made = list(enumerate(new, first))[: self._most(kind) + OTHER + 1 - first]
        self._insert_all(kind, made)
        for number, name in made:
            self._keep((kind, name), number)
