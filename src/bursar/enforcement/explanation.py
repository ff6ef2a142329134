"""What filled a budget's window at a moment: the values of an explanation, and who can read one.

    ExplainQuery  →  Explainer (storage)  →  Explanation  →  `GET /v1/budgets/{id}/explain`

The numbers are of the moment that is asked for, so a refusal can be explained after the fact.
Not here: reading (`storage`), why a call was refused (`budgets.refusal`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bursar.budgets.book import Effect
from bursar.budgets.budget import Budget
from bursar.budgets.hold import HoldState
from bursar.budgets.window import Window
from bursar.core.ids import Org

HOLDS_LISTED_MAX = 100
"""Holds of one explanation, the biggest first; all are counted and summed."""


class SpendPlace(NamedTuple):
    """Where a page of spend ended: the time, the source and the part of its last posting."""

    at: int
    source: bytes
    part: int


class ExplainQuery(NamedTuple):
    """Which window, as of when, and which page of its spend.

    Attributes:
        at: Microseconds UTC; names the window as well.
        run: For a budget per run, else empty.
        before: The end of the page before.
    """

    org: Org
    budget: bytes
    at: int
    run: str
    before: SpendPlace | None
    limit: int


class Holding(NamedTuple):
    """One hold that counted at the moment, and how much of the window it held. `state` is today's."""

    id: bytes
    agent: str
    model: str
    state: HoldState
    amount: int
    created_at: int
    expires_at: int


class Posted(NamedTuple):
    """One amount that had come into the window.

    `source` is a hold's id or an event's key; `agent` is None where neither is known any more.
    """

    source: bytes
    is_hold: bool
    agent: str | None
    amount: int
    effect: Effect
    at: int


class Explanation(NamedTuple):
    """A window at a moment.

    Attributes:
        window: As stored now; None where a session or run had none at that moment.
        settled, held: As of the moment; None where that would take reading too much.
        holds: The biggest first, at most `HOLDS_LISTED_MAX`.
        holds_count: How many counted; None where that would take reading too much.
        spend: Newest first.
        following: Where the next page goes on, None at the end. A page may be short, or empty, and
            have a next one all the same: what is read for one page is bounded.
    """

    budget: Budget
    window: Window | None
    settled: int | None
    held: int | None
    holds: Sequence[Holding]
    holds_count: int | None
    spend: Sequence[Posted]
    following: SpendPlace | None


class Explainer(Protocol):
    """Reads explanations from one snapshot each."""

    async def explain(self, query: ExplainQuery) -> Explanation | None:
        """Return the explanation, None where the organisation has no such budget.

        Raises:
            InvalidInput: The budget counts runs and none is named, or the reverse.
        """
        ...
