"""What a proposed budget would have done to past calls: who is refused, when, and why.

    Budget + past Spends, oldest first  →  simulated  →  Simulation

Runs the very decisions of `authorise` and `settlement` over a book of its own, each call asking
for what it really used: an estimate would refuse a little earlier. A refused call counts
as not made. Pure; nothing of the ledger is touched.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import DEPTH
from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book, Notice
from bursar.budgets.budget import Budget
from bursar.budgets.clock import Now
from bursar.budgets.hold import Granted, Request
from bursar.budgets.matching import BudgetIndex, NamesOf, as_sent
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Spend, settle
from bursar.budgets.window import Window, WindowKey

REFUSALS_LISTED_MAX = 1_000


class Simulation(NamedTuple):
    """What came of it.

    Attributes:
        matched: Calls that the budget counts.
        refused: How many of them it would have refused.
        refused_amount: What those used, in the budget's unit; how many they are under a run guard.
        refused_in: How many of them in each window.
        refusals: The first of those, oldest first, at most `REFUSALS_LISTED_MAX`.
        windows: Its windows, oldest first within each run.
        notices: The alerts and incidents it would have raised.
    """

    matched: int
    refused: int
    refused_amount: int
    refused_in: Counter[WindowKey | None]
    refusals: list[tuple[Spend, Refused | Stopped]]
    windows: list[Window]
    notices: list[Notice]


def simulated(budget: Budget, spends: Iterable[Spend], names_of: NamesOf = as_sent) -> Simulation:
    """Return what `budget` would have done, as if it had been there before the first call.

    Args:
        budget: The proposal.
        spends: Past calls, oldest first; those of other scopes are passed over. Keys must
            differ.
        names_of: Gives a model's other names.
    """
    index = BudgetIndex([msgspec.structs.replace(budget, created_at=0)], names_of)
    book = Book(index.terms, is_complete=True)
    matched = refused_amount = 0
    column = budget.metric.column
    refused_in: Counter[WindowKey | None] = Counter()
    refusals: list[tuple[Spend, Refused | Stopped]] = []
    notices: list[Notice] = []
    for spend in spends:
        found = index.matching(spend.call)
        if not (found.binding or found.watching):
            continue
        matched += 1
        now = Now(spend.occurred_at)
        request = Request(
            hold_id=spend.key, key=spend.key, digest=b"", call=spend.call, amounts=spend.amounts
        )
        answer = authorise(book, request, found, now)
        if isinstance(answer, Granted):
            settle(book, answer.hold, spend, found, now)
        else:
            refused_in[answer.window] += 1
            refused_amount += spend.amounts[column] or 0 if column < DEPTH else 1
            if len(refusals) < REFUSALS_LISTED_MAX:
                refusals.append((spend, answer))
        notices += book.take().notices
        book.holds.clear()
        book.hold_ids.clear()
    windows = [window for track in book.tracks.values() for window in track.windows]
    return Simulation(matched, refused_in.total(), refused_amount, refused_in, refusals, windows, notices)
