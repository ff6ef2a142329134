"""Changes of budgets while calls are in flight, and the end of windows.

    PATCH, DELETE, an approval, a job  →  change_limit, delete, move_zone, close_due  →  Book

Takes the same locks as an authorise, so a change is effective for the next one. Holds
that stand stay valid whatever changes: a lowered limit is recorded (`lowered`), a deleted
budget's windows wind down. A budget counts from its creation: open holds get no leg in it.
"""

from collections.abc import Iterable

import msgspec

from bursar.budgets.book import Book, Notice, Occasion
from bursar.budgets.budget import Budget, Terms, terms_of
from bursar.budgets.clock import Now
from bursar.budgets.settlement import alert
from bursar.budgets.window import Window, is_due_to_close
from bursar.core.errors import InvalidAmount


def change_limit(book: Book, budget: Budget, limit: int, now: Now) -> Budget:
    """Return the budget with another limit, which its running windows have from now on.

    Windows that are over keep theirs. Loaded must be all running windows of the budget.

    Raises:
        InvalidAmount: `limit` is not above zero.
    """
    _positive(limit)
    for window in _running(book, budget.id, now):
        set_window_limit(book, window, limit)
    return msgspec.structs.replace(budget, limit=limit)


def set_window_limit(book: Book, window: Window, limit: int) -> None:
    """Give one window another limit: a raise for this period, or until a job takes it back.

    Raises:
        InvalidAmount: `limit` is not above zero.
    """
    before = window.lowered
    if _positive(limit) < window.limit:
        window.lower_to(limit)
    else:
        window.raise_to(limit)
    book.touch(window)
    if window.lowered > before:
        book.tell(Notice(Occasion.LOWERED, window.key, window.lowered - before))
    alert(book, window)


def delete(book: Book, budget: Budget) -> None:
    """End a budget: its windows close, at once or with their last hold.

    The caller leaves it out of the index from then on. Loaded must be all its windows
    that are not closed.
    """
    for window in _of(book, budget.id):
        if not window.is_closed:
            book.close(window)


def move_zone(book: Book, budget: Budget, zone: str, now: Now) -> Budget:
    """Return the budget in another zone; the running window keeps its ends.

    The next one begins there and ends at the first boundary of the new zone. For a
    budget per run or session nothing changes.
    """
    if not budget.period.begins_with_event:
        window = book.window_at(terms_of(budget), "", now.at)
        book.count_in(window, now.at)
    return msgspec.structs.replace(budget, zone=zone)


def close_due(book: Book, windows: Iterable[Window], now: Now) -> int:
    """Close the windows that are over; return how many were ended. A job, on server time.

    While the clock is in doubt nothing closes before the earlier time says so.
    """
    count = 0
    for window in windows:
        terms: Terms | None = book.terms.get(window.key.budget)
        if terms is not None and is_due_to_close(terms.budget, window, now.trusted):
            if terms.is_per_run:
                window.ends_at = min(window.ends_at, now.trusted)
            book.close(window)
            count += 1
    return count


def _running(book: Book, budget_id: bytes, now: Now) -> list[Window]:
    return [window for window in _of(book, budget_id) if not window.is_past(now.trusted)]


def _of(book: Book, budget_id: bytes) -> list[Window]:
    return [window for window in book.windows.values() if window.key.budget == budget_id]


def _positive(limit: int) -> int:
    if limit <= 0:
        raise InvalidAmount("limit must be above zero", field="limit")
    return limit
