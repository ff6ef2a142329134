"""Where budgets are asked: questions that wait together share a commit, and are answered after it.

    ask(org, question)  →  a group in order  →  commits.decide_all  →  COMMIT  →  the answers

Nothing is answered before it is durable, so a caller that hears nothing asks again with the
same key and gets the same hold, also from a process started since. When a shared commit fails by
a defect its questions are committed one by one, so that nobody fails for a neighbour's sake.

A queue of its own beside `ingestion.intake`: that one weighs requests by their events, merges
them into one batch and sets events aside, and shares only these few lines with this one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar, cast

from bursar.budgets.book import Notice
from bursar.budgets.clock import Now
from bursar.core.errors import AppError, Unavailable
from bursar.core.ids import Org
from bursar.enforcement.changes import Change
from bursar.enforcement.commits import decide_all
from bursar.enforcement.indexes import Indexes
from bursar.enforcement.ports import Store, Transaction
from bursar.enforcement.questions import Question

Answer = TypeVar("Answer")
Result = TypeVar("Result")

WAITING_MAX = 10_000
"""Questions that may wait: about a second's work; beyond, callers come again."""


class _Waiting(NamedTuple):
    org: Org
    question: Question[object]
    answer: "asyncio.Future[object]"


class Desk:
    """Decides for all organisations of one process.

    `change` is the only way to change budgets.

    Args:
        store: The storage engine.
        indexes: The budgets as the process keeps them.
        now: `DecisionClock.read` of both clocks; a restart's clock goes on from
            `last_decided_at` of the store.
        on_notices: Hears what happened once it is committed. Incidents are stored besides.
    """

    def __init__(
        self,
        store: Store,
        indexes: Indexes,
        now: Callable[[], Now],
        on_notices: Callable[[Org, Sequence[Notice]], None] = lambda _org, _notices: None,
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._now = now
        self._on_notices = on_notices
        self._queues: dict[Org | None, list[_Waiting]] = {}
        self._drains: dict[Org | None, asyncio.Task[None]] = {}
        self._waiting_count = 0

    async def ask(self, org: Org, question: Question[Answer]) -> Answer:
        """Return the answer to a question; when this returns it is durable.

        Raises:
            AppError: What the question's decision raises; it changed nothing.
            Unavailable: Too many questions wait, or storage takes no writes (`StorageFull`).
        """
        if self._waiting_count >= WAITING_MAX:
            raise Unavailable("too many requests wait for their commit; send this one again")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()
        place = org if self._store.commits_apart else None
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = []
            self._drains[place] = loop.create_task(self._drain_waiting(place, queue))
        queue.append(_Waiting(org, question, answer))
        self._waiting_count += 1
        return cast("Answer", await answer)

    async def change(self, org: Org, work: Callable[[Change], Awaitable[Result]]) -> Result:
        """Run a change (see `changes`) in a transaction of its own, effective for the next question."""
        notices: list[Notice] = []

        async def run(transaction: Transaction) -> Result:
            notices.clear()  # a store may run it twice
            unit = transaction.unit(org)
            index = await self._indexes.of(org, unit.budgets)
            return await work(Change(unit, index, self._now(), notices))

        result = await self._store.transact(run)
        self._on_notices(org, notices)
        return result

    async def decide_now(
        self, org: Org, questions: Sequence[Question[Answer]]
    ) -> Sequence[Answer | AppError]:
        """Decide a few questions in one commit of their own: what jobs ask. See `ask`."""
        answers = await self._commit([(org, question) for question in questions])
        return cast("Sequence[Answer | AppError]", answers)

    async def _drain_waiting(self, place: Org | None, queue: list[_Waiting]) -> None:
        """Commit what waits, group by group, until nothing waits."""
        # One turn of the loop: questions that are ready now join the first group.
        await asyncio.sleep(0)
        together_max = self._store.together_max
        while queue:
            group = queue[:together_max]
            del queue[:together_max]
            self._waiting_count -= len(group)
            await self._answer_group(group)
            await asyncio.sleep(0)
        del self._queues[place], self._drains[place]

    async def _answer_group(self, group: list[_Waiting]) -> None:
        try:
            answers = await self._commit([(waiting.org, waiting.question) for waiting in group])
        except Unavailable as error:
            for waiting in group:
                _give(waiting, error)
        except Exception as error:  # noqa: BLE001 - one question's fault; each then meets its own
            if len(group) == 1:
                _give(group[0], error)
                return
            for waiting in group:
                await self._answer_group([waiting])
        else:
            for waiting, answer in zip(group, answers, strict=True):
                _give(waiting, answer)

    async def _commit(self, asked: Sequence[tuple[Org, Question[object]]]) -> list[object | AppError]:
        """Decide in order, each organisation's questions over one book; return after the commit."""
        shares: dict[Org, list[int]] = {}
        for place, (org, _) in enumerate(asked):
            shares.setdefault(org, []).append(place)
        answers: dict[int, object | AppError] = {}
        heard: list[tuple[Org, list[Notice]]] = []

        async def together(transaction: Transaction) -> None:
            heard.clear()  # a store may run it twice
            for org, places in sorted(shares.items()):
                budgets = transaction.unit(org).budgets
                index = await self._indexes.of(org, budgets)
                # Only now: what waited for its turn must not decide by a time before those it waited for.
                now = self._now()
                questions = [asked[place][1] for place in places]
                decided = await decide_all(budgets, index, questions, now)
                if decided.active is not index:
                    await self._indexes.keep(org, budgets, decided.active)
                answers.update(zip(places, decided.answers, strict=True))
                heard.append((org, decided.notices))

        await self._store.transact(together)
        for org, notices in heard:
            if notices:
                self._on_notices(org, notices)
        return [answers[place] for place in range(len(asked))]


def _give(waiting: _Waiting, answer: object) -> None:
    """Answer one caller, unless it has gone."""
    if waiting.answer.done():
        return
    if isinstance(answer, Exception):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)
