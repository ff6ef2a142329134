"""Run jobs at intervals within the server's loop, one task each.

A job that fails is logged and comes again at its next time: no failure ends the schedule.
Intervals count from the end of a run, so a slow run never overlaps itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

_log = structlog.get_logger()


class Job(NamedTuple):
    """What to run, how often, under which name; and whether once more at the end.

    `at_stop` is for jobs that write down what was gathered in memory.
    """

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    at_stop: bool = True


class Schedule:
    """The running jobs of one process."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the first run of each job comes after its interval."""
        self._tasks = [asyncio.create_task(_repeat(job), name=job.name) for job in self._jobs]

    async def stop(self) -> None:
        """End all jobs, then run those that gather a last time so that nothing is left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._jobs:
            if job.at_stop:
                await _run(job)


async def _repeat(job: Job) -> None:
    while True:
        await asyncio.sleep(job.every_s)
        await _run(job)


async def _run(job: Job) -> None:
    try:
        await job.run()
    except Exception:  # noqa: BLE001 - a job must not end the schedule; logged in full
        _log.exception("job_failed", job=job.name)
