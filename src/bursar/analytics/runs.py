"""The values of runs: calls that share a run id, with what they and the runs below them cost.

    http/v1  →  RunReader  →  Run  →  http/v1

A run has no end of its own: it is completed when nothing of it has come for a while. Not here: its
events (`events`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from bursar.analytics.agents import ACTIVE_MICROS, Use
from bursar.core.ids import Org


class RunStatus(StrEnum):
    """The values stand in the API."""

    RUNNING = "running"
    COMPLETED = "completed"


class RunPlace(NamedTuple):
    """Where a run stands in the order of an agent's runs: by its last call, then by its key."""

    last_at: int
    run: bytes


class Run(NamedTuple):
    """One run.

    Attributes:
        run_id: As the caller named it.
        parent_id: The run that started it, where its calls say so.
        agent: Of its first call that was heard of; None where that gave none.
        used: By its own calls.
        tree: By them and by all runs below it.
        runs_below: How many those are.
    """

    place: RunPlace
    run_id: str
    parent_id: str | None
    agent: str | None
    used: Use
    errors: int
    first_at: int
    tree: Use
    runs_below: int

    def status(self, now: int) -> RunStatus:
        """Return whether calls of it still come."""
        is_quiet = self.place.last_at < now - ACTIVE_MICROS
        return RunStatus.COMPLETED if is_quiet else RunStatus.RUNNING


class RunReader(Protocol):
    """Runs of one organisation."""

    async def runs(self, org: Org, agent: str, *, before: RunPlace | None, most: int) -> Sequence[Run]:
        """Return an agent's runs, those that were active last first, all behind `before`."""
        ...

    async def run(self, org: Org, run_id: str) -> Run | None:
        """Return one run by the caller's id, None when no call named it."""
        ...
