"""The auditor, once a minute: proves the ledger's sums and tells the metric.

storage proves a part  →  VerifyReport  →  `ledger_audit_violations`, the log
"""

from collections.abc import Callable

import structlog

from bursar.core.time import MICROS_PER_SECOND
from bursar.ledger.ports import LedgerAuditor
from bursar.web.metrics import LedgerMetrics

_log = structlog.get_logger()


class AuditJob:
    """Runs the auditor and publishes what it found; `clock` gives microseconds UTC."""

    def __init__(self, auditor: LedgerAuditor, metrics: LedgerMetrics, clock: Callable[[], int]) -> None:
        self._auditor = auditor
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Audit once. The gauge says how many violations stand; it must be 0."""
        report = await self._auditor.audit()
        self._metrics.audit_violations.set(report.violations_count)
        self._metrics.audited_at.set(self._clock() / MICROS_PER_SECOND)
        for violation in report.violations:
            _log.error("ledger_violation", **violation._asdict())
