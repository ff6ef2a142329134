"""The audit log: `identity.audit_log.AuditReader`."""

import msgspec

from bursar.core.audit import AuditEntry
from bursar.core.ids import Org
from bursar.identity.audit_log import AuditQuery, LoggedEntry
from bursar.storage.sql.ports import Connection, Readers, Row

_PAGE = """SELECT seq, at, actor, action, target, details FROM audit
    WHERE org = :org AND seq < :before
        AND (:actor = '' OR actor = :actor)
        AND (:action = '' OR action = :action OR (:beginning <> '' AND
            substr(action, 1, length(:beginning)) = :beginning))
        AND (at >= :since OR :since IS NULL) AND (at < :until OR :until IS NULL)
    ORDER BY seq DESC LIMIT :most"""
_SEQ_MAX = 2**63 - 1


class SqlAuditLog:
    """`identity.audit_log.AuditReader` over the one file."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def entries(
        self, org: Org, query: AuditQuery, *, before: int | None, limit: int
    ) -> list[LoggedEntry]:
        """Return the newest entries below a number."""
        asked: dict[str, int | str | None] = {
            "org": org,
            "before": _SEQ_MAX if before is None else before,
            "actor": query.actor,
            "action": "" if query.action == "*" else query.action,
            "beginning": query.action.removesuffix("*") if query.action.endswith("*") else "",
            "since": query.since,
            "until": query.until,
            "most": limit,
        }

        def work(connection: Connection) -> list[LoggedEntry]:
            return [_entry_from_row(row) for row in connection.execute(_PAGE, asked)]

        return await self._readers.run(org, work)


def _entry_from_row(row: Row) -> LoggedEntry:
    seq, at, actor, action, target, details = row
    decoded = None if details is None else msgspec.json.decode(details, type=dict[str, object])
    return LoggedEntry(seq, AuditEntry(at=at, actor=actor, action=action, target=target, details=decoded))
