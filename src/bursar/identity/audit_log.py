"""The audit log, as it is read: who changed what, newest first. It is written by each change's own commit."""

from typing import NamedTuple, Protocol

from bursar.core.audit import AuditEntry
from bursar.core.ids import Org


class LoggedEntry(NamedTuple):
    """An entry and its number, which counts up by one in each organisation: a gap would be a loss."""

    seq: int
    entry: AuditEntry


class AuditQuery(NamedTuple):
    """Which entries; empty text and None are no condition.

    Attributes:
        actor: Exactly who.
        action: Exactly which, or with a `*` at its end all that begin so (`key.*`).
        since, until: Microseconds UTC, half-open.
    """

    actor: str = ""
    action: str = ""
    since: int | None = None
    until: int | None = None


class AuditReader(Protocol):
    """Reads the audit log."""

    async def entries(
        self, org: Org, query: AuditQuery, *, before: int | None, limit: int
    ) -> list[LoggedEntry]:
        """Return the newest entries with a number below `before`, at most `limit`."""
        ...
