"""How a caller stands with its budgets: what an agent reads, and what headers say.

Book, Call  →  standing_of  →  hold answers, ingest answers, `GET /v1/agents/{name}/budgets`
"""

from enum import StrEnum
from typing import NamedTuple

from bursar.budgets.amounts import Metric
from bursar.budgets.book import Book
from bursar.budgets.budget import Terms
from bursar.budgets.clock import Now
from bursar.budgets.matching import Call, Matched
from bursar.budgets.window import Window, reaches
from bursar.core.money import NUSD_MAX

_WARNING_PPM = 800_000


class BudgetState(StrEnum):
    """Stands in the API as `budget_state`."""

    OK = "ok"
    WARNING = "warning"
    EXCEEDED = "exceeded"


class Standing(NamedTuple):
    """One budget as its caller sees it: the window that counts now, and what it means."""

    budget: bytes
    state: BudgetState
    window: Window
    remaining: int
    resets_at: int | None
    metric: Metric = Metric.COST


def standing_of(book: Book, matched: Matched, call: Call, now: Now) -> list[Standing]:
    """Return how `call` stands with each budget it meets, in order of id.

    `exceeded` when nothing more fits, `warning` from the budget's lowest threshold on (0.8
    where it has none). Reads only: a window that does not exist yet is shown empty.
    """
    found = []
    for part in matched:
        for terms in part:
            window = book.window_at(terms, call.run, now.at)
            state = state_of(window, terms)
            found.append(
                Standing(terms.id, state, window, window.remaining, window.resets_at, terms.budget.metric)
            )
    return sorted(found, key=lambda standing: standing.budget)


def tightest(standings: list[Standing]) -> Standing | None:
    """Return the budget nearest to its end: what a single header can tell. None without budgets."""
    return max(standings, key=lambda s: s.window.used * NUSD_MAX // s.window.limit, default=None)


def state_of(window: Window, terms: Terms) -> BudgetState:
    """Return what a window says of its budget; see `standing_of`."""
    warning_ppm = terms.first_ppm or _WARNING_PPM
    if window.used >= window.limit:
        return BudgetState.EXCEEDED
    return BudgetState.WARNING if reaches(window.used, window.limit, warning_ppm) else BudgetState.OK
