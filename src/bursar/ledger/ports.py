"""What the ledger's upkeep needs from a storage engine."""

from typing import Protocol

from bursar.ledger.verification import VerifyReport


class LedgerAuditor(Protocol):
    """Proves parts of the ledger in the background, so that all of it is proved each day."""

    async def audit(self) -> VerifyReport:
        """Check what was touched since the last call and a slice of the rest.

        Reads one consistent snapshot and does not block the event loop. Violations found
        earlier are looked at again and stay in the report until they are cured.
        """
        ...
