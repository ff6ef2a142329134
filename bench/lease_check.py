"""Measure the check that a lease's client makes before a call: one lock and two comparisons.

python bench/lease_check.py [checks]

Prints the median and the 99th percentile in microseconds, alone and beside three threads that
check as well. Nothing is sent: the lease is made here.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.lease_client import Lease, LeaseClient, Settings, clock

CHECKS = 200_000
GOAL_US = 20.0


def measured(client: LeaseClient, lease: Lease, checks: int) -> list[float]:
    """Return how long each check took, in microseconds, sorted."""
    took = []
    for _ in range(checks):
        begun = time.perf_counter_ns()
        is_taken = client.take(lease, 1_000)
        took.append((time.perf_counter_ns() - begun) / 1_000)
        assert is_taken
    return sorted(took)


def lent(folder: Path) -> tuple[LeaseClient, Lease]:
    """Return a client and a lease of more than will be asked for."""
    client = LeaseClient(Settings("http://127.0.0.1:9", "none", "bench", "none", folder))
    lease = Lease("lse_bench", "bench")
    lease.rest, lease.until = 10**15, clock() + 3_600
    return client, lease


def show(label: str, took: list[float]) -> None:
    median, high = took[len(took) // 2], took[len(took) * 99 // 100]
    verdict = "met" if high < GOAL_US else "missed"
    print(f"{label:<24} p50 {median:6.2f} µs   p99 {high:6.2f} µs   goal p99 < {GOAL_US:.0f} µs: {verdict}")


def main() -> None:
    checks = int(sys.argv[1]) if len(sys.argv) > 1 else CHECKS
    with tempfile.TemporaryDirectory() as folder:
        client, lease = lent(Path(folder))
        show("one thread", measured(client, lease, checks))
        end = threading.Event()

        def disturb() -> None:
            while not end.is_set():
                client.take(lease, 1_000)
                time.sleep(0.0002)  # a thread that waits for providers most of the time

        others = [threading.Thread(target=disturb) for _ in range(3)]
        for other in others:
            other.start()
        show("beside three threads", measured(client, lease, checks))
        end.set()
        for other in others:
            other.join()


if __name__ == "__main__":
    main()
