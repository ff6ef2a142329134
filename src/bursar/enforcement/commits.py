"""One organisation's part of a commit: load in bulk, decide in order, write once.

    Questions  →  loaded  →  decide each  →  written  →  answers, or errors as values

Runs inside a transaction that somebody else opens and commits (`desk`, or the pipeline beside
its own rows). An `AppError` belongs to one question: the decisions have changed nothing
then, so the others stand. Any other exception is a defect and fails the commit.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from bursar.budgets.alert import raised
from bursar.budgets.book import Book, Notice, Occasion, TrackKey, track_keys
from bursar.budgets.clock import Now
from bursar.budgets.gate import gate_keys
from bursar.budgets.incident import Incident, opened
from bursar.budgets.matching import BudgetIndex, Call
from bursar.budgets.ports import BudgetStore, Written
from bursar.budgets.templates import completed, missing
from bursar.core.errors import AppError
from bursar.core.ids import new_id
from bursar.enforcement.questions import Question, Scene


class Decided(NamedTuple):
    """Each question's answer or error, in order, what somebody should hear of, and the budgets since."""

    answers: list[object | AppError]
    notices: list[Notice]
    active: BudgetIndex


async def decide_all(
    budgets: BudgetStore, index: BudgetIndex, questions: Sequence[Question[object]], now: Now
) -> Decided:
    """Decide in order.

    Everything is written when this returns, and durable once the transaction commits.
    """
    scene = await loaded(budgets, index, questions, now)
    answers: list[object | AppError] = []
    for question in questions:
        try:
            answers.append(question.decide(scene))
        except AppError as error:
            answers.append(error)
    return Decided(answers, await written(budgets, scene.book, now.at), scene.active)


async def loaded(
    budgets: BudgetStore, index: BudgetIndex, questions: Sequence[Question[object]], now: Now
) -> Scene:
    """Return a book with everything that the questions need, each row read once.

    `Scene.active` is another index than `index` where templates have made budgets for the callers.
    """
    book = Book(index.terms)
    ids = [q.hold_id for q in questions if q.hold_id is not None]
    keys = [q.hold_key for q in questions if q.hold_key is not None]
    await budgets.load_holds(book, ids, keys)
    met = _met(questions, book, now)
    index = await _completed(budgets, index, book, met)
    tracks: dict[TrackKey, set[int]] = {}
    gates = {}
    for call, instants in met.items():
        for track in track_keys(index.matching(call), call):
            tracks.setdefault(track, set()).update(instants)
        gates.update(dict.fromkeys(gate_keys(call)))
    if any(question.counts_leases for question in questions):
        await budgets.load_leases(book)
    await budgets.load_tracks(book, tracks)
    await budgets.load_legs(book)
    await budgets.load_gates(book, list(gates))
    sources = [q.source for q in questions if q.source is not None]
    posted = await budgets.load_posted(book, sources) if sources else {}
    return Scene(book, index, now, posted)


def _met(questions: Sequence[Question[object]], book: Book, now: Now) -> dict[Call, set[int]]:
    """Return the different calls with the instants at which they count: a batch has few and repeats them."""
    current = {now.at} if now.doubted is None else {now.at, now.doubted}
    found: dict[Call, set[int]] = {}
    for question in questions:
        met = question.met(book)
        if met is not None:
            call, instants = met
            known = found.get(call)
            if known is None:
                known = found[call] = set(current)
            known.update(instants)
    return found


async def _completed(
    budgets: BudgetStore, index: BudgetIndex, book: Book, calls: Iterable[Call]
) -> BudgetIndex:
    """Make the budgets that templates owe to the callers; return the index with them."""
    owed = missing(index, calls)
    if not owed:
        return index
    done = completed(index, owed, await budgets.exists(owed))
    for budget in done.made:
        await budgets.put(budget)
    for notice in done.skipped:
        if not await budgets.has_alert(notice.occasion, notice.budget or b"", notice.agent):
            book.tell(notice)
    book.terms = done.active.terms
    return done.active


async def written(
    budgets: BudgetStore, book: Book, at: int, *, incidents: Collection[Incident] = ()
) -> list[Notice]:
    """Write what a book has changed, its incidents and its alerts; return its notices.

    A commit that changed nothing writes nothing, so that it costs no sync.

    Args:
        budgets: Where to.
        book: After the decisions.
        at: The deciding time.
        incidents: Those that a decision has changed.
    """
    writes = book.take()
    gates, book.gates.changed = list(book.gates.changed.values()), {}
    crossings = [opened(new_id(), n, at) for n in writes.notices if n.occasion is Occasion.INCIDENT]
    alerts = [alert for notice in writes.notices if (alert := raised(new_id(), notice, at))]
    beside = Written(at, gates, [*incidents, *crossings], alerts)
    if any((writes.windows, writes.holds, writes.postings, *beside[1:])):
        await budgets.write(writes, beside)
    return writes.notices
