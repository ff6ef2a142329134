"""Statements that look synchronous, on a driver that is not.

    await in_worker(work)  →  greenlet: work()  →  wait_for(awaitable)  →  the task awaits it  →  back

The statements of `storage.sql` call `execute` and go on with its rows. Here that suspends
the greenlet they run in, the event loop serves others meanwhile, and the caller's stack
continues where it stood. A coroutine can run in such a greenlet too: what it awaits
itself goes through to the task that drives it.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

Result = TypeVar("Result")


class _Worker(greenlet):
    """A greenlet whose parent awaits what it is handed."""


class _Yielded:
    """What a driven coroutine yielded, to be yielded once more by the task that drives it."""

    def __init__(self, what: object) -> None:
        self._what = what

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._what)


def wait_for(awaitable: Awaitable[Result]) -> Result:
    """Return what `awaitable` gives; other tasks run meanwhile.

    Raises:
        RuntimeError: The caller does not run beneath `in_worker`.
    """
    worker = getcurrent()
    if not isinstance(worker, _Worker) or worker.parent is None:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise RuntimeError("a statement for PostgreSQL was run outside of a transaction or read")
    return worker.parent.switch(awaitable)  # type: ignore[no-any-return]


async def in_worker(work: Callable[[], Result]) -> Result:
    """Run `work` so that it, and what it calls, may use `wait_for`."""
    worker = _Worker(work)
    worker.gr_context = getcurrent().gr_context
    handed = worker.switch()
    while not worker.dead:
        try:
            value = await handed
        except BaseException as error:  # noqa: BLE001 - it belongs to the code that waits for it
            handed = worker.throw(error)
        else:
            handed = worker.switch(value)
    return handed  # type: ignore[no-any-return]


def driven(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end within a worker; what it awaits, the worker's task awaits."""
    error: BaseException | None = None
    while True:
        try:
            yielded = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        error = None
        try:
            wait_for(_Yielded(yielded))
        except BaseException as raised:  # noqa: BLE001 - thrown into the coroutine that waits
            error = raised
