"""Statements that look synchronous: what runs beneath them sees its own errors, its context and its end."""

import asyncio
from contextvars import ContextVar

import pytest

from bursar.storage.postgres.suspension import driven, in_worker, wait_for

SAID: ContextVar[str] = ContextVar("said", default="nothing")


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def test_code_that_looks_synchronous_waits_while_others_run() -> None:
    seen: list[int] = []

    def work(start: int) -> int:
        seen.extend(wait_for(answer(number)) for number in range(start, start + 3))
        return start

    assert await asyncio.gather(in_worker(lambda: work(0)), in_worker(lambda: work(10))) == [0, 10]
    assert seen == [0, 10, 1, 11, 2, 12]


async def test_an_error_of_what_is_awaited_is_raised_where_it_was_asked_for() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    def work() -> str:
        with pytest.raises(LookupError, match="gone"):
            wait_for(fail())
        return "went on"

    assert await in_worker(work) == "went on"


async def test_an_error_of_the_work_reaches_who_awaits_it() -> None:
    def work() -> None:
        wait_for(answer(1))
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await in_worker(work)


async def test_a_cancelled_task_ends_its_work_in_the_middle_of_a_statement() -> None:
    ended: list[str] = []

    def work() -> None:
        try:
            wait_for(asyncio.sleep(60))
        except asyncio.CancelledError:
            ended.append("in the middle")
            raise

    task = asyncio.create_task(in_worker(work))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["in the middle"]


async def test_a_coroutine_beneath_may_await_locks_and_statements_alike() -> None:
    lock, order = asyncio.Lock(), list[str]()

    async def work(name: str) -> str:
        async with lock:
            order.append(f"{name} in")
            wait_for(asyncio.sleep(0.01))
            await asyncio.sleep(0)
            order.append(f"{name} out")
        return name

    names = [in_worker(lambda name=name: driven(work(name))) for name in "ab"]
    assert await asyncio.gather(*names) == ["a", "b"]
    assert order == ["a in", "a out", "b in", "b out"]


async def test_a_worker_within_a_coroutine_of_another_worker_waits_for_its_own() -> None:
    async def outer() -> int:
        first = await in_worker(lambda: wait_for(answer(1)))
        return first + wait_for(answer(2))

    assert await in_worker(lambda: driven(outer())) == 3


async def test_the_work_has_the_context_of_its_task() -> None:
    SAID.set("before")

    def work() -> str:
        wait_for(answer(1))
        heard = SAID.get()
        SAID.set("by the work")
        return heard

    assert await in_worker(work) == "before"
    assert SAID.get() == "by the work"


async def test_a_statement_outside_of_any_worker_is_refused() -> None:
    with pytest.raises(RuntimeError, match="outside of a transaction"):
        wait_for(answer(1))
