"""Run jobs at intervals within the server's loop, one task each.

A job that fails is logged and comes again at its next time: no failure ends the schedule. One
that cannot work now, since the database is away, says so once and goes on by itself.
Intervals count from the end of a run, so a slow run never overlaps itself. Where several
processes have one database, each run of a job takes place in one of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import structlog

from bursar.core.errors import Unavailable

_log = structlog.get_logger()

STOP_S = 5.0
"""How long the last runs may take together: a database that is away must not keep a process from ending."""

Leading = Callable[[str], AbstractAsyncContextManager[bool]]
"""Tells whether this process may run the job of that name now, and keeps others from it meanwhile."""


class Job(NamedTuple):
    """What to run, how often, under which name.

    A job that `gathers` writes down what this process has in memory: it runs in every
    process, and once more at the end. Every other job looks after the whole database.
    """

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    gathers: bool = False


class Schedule:
    """The running jobs of one process.

    Args:
        jobs: All of them.
        leading: Of the database.
        runs_shared: Whether this process looks after the database too, beside what it gathers.
    """

    def __init__(self, jobs: list[Job], leading: Leading, *, runs_shared: bool = True) -> None:
        self._jobs = [job for job in jobs if job.gathers or runs_shared]
        self._leading = leading
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: set[str] = set()

    def start(self) -> None:
        """Begin; the first run of each job comes after its interval."""
        self._tasks = [asyncio.create_task(self._repeat(job), name=job.name) for job in self._jobs]

    async def stop(self) -> None:
        """End all jobs, then run those that gather a last time so that nothing is left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_S):
                for job in self._jobs:
                    if job.gathers:
                        await self._run(job)
        except TimeoutError:
            _log.warning("jobs_cut_short", after_s=STOP_S)

    async def _repeat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(job.every_s)
            await self._run(job)

    async def _run(self, job: Job) -> None:
        try:
            if job.gathers:
                await job.run()
            else:
                async with self._leading(job.name) as leads:
                    if leads:
                        await job.run()
        except Unavailable as error:
            # Said once, however long it lasts: the job comes again, and so does whoever reads the log.
            if job.name not in self._waiting:
                _log.warning("job_waits", job=job.name, reason=error.detail)
                self._waiting.add(job.name)
        except Exception:  # noqa: BLE001 - a job must not end the schedule; logged in full
            _log.exception("job_failed", job=job.name)
        else:
            if job.name in self._waiting:
                _log.info("job_goes_on", job=job.name)
                self._waiting.discard(job.name)
