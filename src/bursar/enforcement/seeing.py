"""Ask one question about a hold and see the hold's windows as they were when it was answered.

    Authorise | Void | Extend  →  Seeing  →  desk  →  Sighted (answer, windows)

What is shown to a caller must be of the moment of its decision: a moment later, other
questions of the same commit have changed the windows. Not here: what is decided (`questions`).
"""

from typing import Generic, NamedTuple, TypeVar

import msgspec

from bursar.budgets.book import Book
from bursar.budgets.hold import Granted, Hold, HoldKind, HoldState
from bursar.budgets.matching import Call
from bursar.budgets.seen import WindowSeen, windows_seen
from bursar.core.errors import InvalidInput, NotFound
from bursar.enforcement.questions import Question, Scene

Answer = TypeVar("Answer")
Inner = TypeVar("Inner", bound=Question[object])


class Sighted(NamedTuple, Generic[Answer]):
    """An answer, and the windows of its hold; none where no hold came of it."""

    answer: Answer
    windows: tuple[WindowSeen, ...]


class Around(msgspec.Struct, Generic[Inner], frozen=True):
    """A question around another one: it needs what that one needs."""

    question: Inner

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


class Seeing(Around[Question[Answer]], Generic[Answer], frozen=True):
    """A question and a look at its hold's windows.

    Attributes:
        question: What is asked.
        agent, project: What the caller's key is bound to: a hold of others is not found.
        refuses_leases: It is no question for a lease that is spent from.
    """

    agent: str = ""
    project: str = ""
    refuses_leases: bool = False

    def decide(self, scene: Scene) -> Sighted[Answer]:
        """Decide, then look.

        Raises:
            NotFound: The hold belongs to another agent or project than the caller's key.
            InvalidInput: It is a lease that is spent from.
        """
        self._check(scene.book.holds.get(self.question.hold_id or b""))
        answer = self.question.decide(scene)
        hold = answer.hold if isinstance(answer, Granted) else answer
        windows = windows_seen(scene.book, hold) if isinstance(hold, Hold) else ()
        return Sighted(answer, windows)

    def _check(self, hold: Hold | None) -> None:
        if hold is None:
            return
        if self.agent not in {"", hold.call.agent} or self.project not in {"", hold.call.project}:
            raise NotFound("there is no such hold")
        if self.refuses_leases and hold.kind is HoldKind.LEASE and hold.state is HoldState.OPEN:
            raise InvalidInput("this is a lease: report to it, or return it", field="id")
