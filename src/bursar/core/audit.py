"""What was changed by whom: the value that the unit of work appends to `audit`."""

from collections.abc import Mapping

import msgspec


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One deliberate change of configuration or state by a person, key or job.

    Attributes:
        at: Microseconds UTC.
        actor: Who: `key:<id>`, `user:<id>`, `operator`, `job:<name>`.
        action: What, as noun and verb: `key.create`, `price.override`.
        target: On what, a prefixed id or a name.
        details: Plain values for explanation; never a secret.
    """

    at: int
    actor: str
    action: str
    target: str
    details: Mapping[str, object] | None = None
