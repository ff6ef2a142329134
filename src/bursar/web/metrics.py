"""Prometheus metrics of the HTTP surfaces and the ledger, in a registry of the app's own.

Label sets stay small on purpose: method and status class, never an agent, user or run.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class HttpMetrics:
    """What is counted of each request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "bursar_http_requests", "Requests answered.", ["method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "bursar_http_request_seconds",
            "Time to answer.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._children: dict[tuple[str, int], Counter] = {}

    def observe(self, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        child = self._children.get((method, status))
        if child is None:
            known = (
                method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
            )
            child = self._requests.labels(known, str(status))
            if known == method:
                self._children[method, status] = child
        child.inc()
        self._seconds.observe(seconds)


class LedgerMetrics:
    """What is counted of the ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.recorded = Counter(
            "bursar_events_recorded", "Events recorded, duplicates left out.", registry=registry
        )
        self.duplicates = Counter("bursar_events_duplicate", "Repeated keys, not counted.", registry=registry)
        self.conflicts = Counter(
            "bursar_events_conflict", "Known keys with other content, refused.", registry=registry
        )
        self.unpriced = Counter("bursar_events_unpriced", "Recorded without a price.", registry=registry)
        self.quarantined = Counter(
            "bursar_events_quarantined", "Kept aside: could not be posted.", registry=registry
        )
        self.audit_violations = Gauge(
            "ledger_audit_violations", "Sums that disagree with their entries; must be 0.", registry=registry
        )
        self.audited_at = Gauge(
            "ledger_audited_timestamp_seconds", "When the auditor last finished.", registry=registry
        )
