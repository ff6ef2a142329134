"""Ask one question about a hold and see the hold's windows as they were when it was answered.

    Authorise | Void | Extend  →  Seeing  →  desk  →  Sighted (answer, windows)

What is shown to a caller must be of the moment of its decision: a moment later, other
questions of the same commit have changed the windows. Not here: what is decided (`questions`).
"""

from typing import Generic, NamedTuple, TypeVar

import msgspec

from bursar.budgets.book import Book
from bursar.budgets.hold import Granted, Hold
from bursar.budgets.matching import Call
from bursar.budgets.seen import WindowSeen, windows_seen
from bursar.core.errors import NotFound
from bursar.enforcement.questions import Question, Scene

Answer = TypeVar("Answer")


class Sighted(NamedTuple, Generic[Answer]):
    """An answer, and the windows of its hold; none where no hold came of it."""

    answer: Answer
    windows: tuple[WindowSeen, ...]


class Seeing(msgspec.Struct, Generic[Answer], frozen=True):
    """A question and a look at its hold's windows.

    Attributes:
        question: What is asked.
        agent, project: What the caller's key is bound to: a hold of others is not found.
    """

    question: Question[Answer]
    agent: str = ""
    project: str = ""

    @property
    def hold_id(self) -> bytes | None:
        """The question's."""
        return self.question.hold_id

    @property
    def hold_key(self) -> bytes | None:
        """The question's."""
        return self.question.hold_key

    @property
    def source(self) -> bytes | None:
        """The question's."""
        return self.question.source

    @property
    def counts_leases(self) -> bool:
        """The question's."""
        return self.question.counts_leases

    def met(self, book: Book) -> tuple[Call, tuple[int, ...]] | None:
        """The question's."""
        return self.question.met(book)

    def decide(self, scene: Scene) -> Sighted[Answer]:
        """Decide, then look.

        Raises:
            NotFound: The hold belongs to another agent or project than the caller's key.
        """
        if self.agent or self.project:
            self._check_bound(scene.book)
        answer = self.question.decide(scene)
        hold = answer.hold if isinstance(answer, Granted) else answer
        windows = windows_seen(scene.book, hold) if isinstance(hold, Hold) else ()
        return Sighted(answer, windows)

    def _check_bound(self, book: Book) -> None:
        hold_id = self.question.hold_id
        if hold_id is None and self.question.hold_key is not None:
            hold_id = book.hold_ids.get(self.question.hold_key)
        hold = None if hold_id is None else book.holds.get(hold_id)
        if hold is None:
            return
        if self.agent not in {"", hold.call.agent} or self.project not in {"", hold.call.project}:
            raise NotFound("there is no such hold")
