"""Changes of budgets, gates and incidents by people and agents, each within one transaction.

    PUT, PATCH, DELETE, kill, resume, approve  →  desk.change  →  here  →  storage

Takes its place among the authorisations, so a change is effective for the next one. Not here:
who may change what (`identity`), the rules (`budgets.limits`, `budgets.gate`, `budgets.incident`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bursar.budgets import limits
from bursar.budgets.book import Book, Notice
from bursar.budgets.budget import Budget
from bursar.budgets.clock import Now
from bursar.budgets.gate import Gate, GateKey, Gates
from bursar.budgets.incident import Decision, Incident, resolved, taken_back
from bursar.budgets.matching import BudgetIndex, check_room_for
from bursar.budgets.ports import BudgetStore
from bursar.budgets.window import RUN_QUIET_MICROS
from bursar.core.errors import NotFound
from bursar.core.ids import new_id
from bursar.enforcement.commits import written
from bursar.enforcement.ports import UnitOfWork


class Change(NamedTuple):
    """One organisation's budgets as a change finds them, in its transaction.

    `notices` collects what somebody should hear of once it is committed.
    """

    unit: UnitOfWork
    active: BudgetIndex
    now: Now
    notices: list[Notice]

    @property
    def budgets(self) -> BudgetStore:
        """The organisation's budgets in storage."""
        return self.unit.budgets

    def named(self, budget_id: bytes) -> Budget:
        """Return an active budget.

        Raises:
            NotFound: There is none of that id.
        """
        terms = self.active.terms.get(budget_id)
        if terms is None:
            raise NotFound("there is no such budget")
        return terms.budget

    async def write(self, book: Book, incidents: Sequence[Incident] = ()) -> None:
        """Write what a book has changed."""
        self.notices.extend(await written(self.budgets, book, self.now.at, incidents=incidents))


async def create(change: Change, budget: Budget) -> Budget:
    """Store a new budget.

    Raises:
        TooManyBudgets: Some call would meet more budgets than can be decided at once.
    """
    check_room_for(budget, [terms.budget for terms in change.active.terms.values()])
    await change.budgets.put(budget)
    return budget


async def change_limit(change: Change, budget_id: bytes, limit: int) -> Budget:
    """Give a budget and its running windows another limit.

    Raises:
        NotFound: There is no such budget.
        InvalidAmount: `limit` is not above zero.
    """
    book = Book(change.active.terms)
    budget = change.named(budget_id)
    await change.budgets.load_running(book, budget_id)
    changed = limits.change_limit(book, budget, limit, change.now)
    await change.budgets.put(changed)
    await change.write(book)
    return changed


async def move_zone(change: Change, budget_id: bytes, zone: str) -> Budget:
    """Have a budget's next windows begin by another zone's clocks.

    Raises:
        NotFound: There is no such budget.
    """
    book = Book(change.active.terms)
    budget = change.named(budget_id)
    await change.budgets.load_tracks(book, {(budget_id, ""): {change.now.at}})
    changed = limits.move_zone(book, budget, zone, change.now)
    await change.budgets.put(changed)
    await change.write(book)
    return changed


async def delete(change: Change, budget_id: bytes) -> None:
    """End a budget; its windows wind down.

    Raises:
        NotFound: There is no such budget.
    """
    book = Book(change.active.terms)
    budget = change.named(budget_id)
    await change.budgets.load_running(book, budget_id)
    limits.delete(book, budget)
    await change.budgets.mark_deleted(budget_id, change.now.at)
    await change.write(book)


async def change_gate(change: Change, key: GateKey, how: Callable[[Gates], Gate]) -> Gate:
    """Stop or resume an agent, a project or the organisation: `how` is `gate.stop` or `gate.resume`.

    Raises:
        Denied: What stands there is not the caller's to end.
    """
    book = Book(change.active.terms)
    await change.budgets.load_gates(book, [key])
    gate = how(book.gates)
    await change.write(book)
    return gate


async def resolve(change: Change, incident_id: bytes, decision: Decision) -> Incident:
    """Decide an incident, and keep who decided it and why. A repeat changes nothing.

    Raises:
        NotFound: There is no such incident.
        Conflict: It was decided otherwise before.
        InvalidInput: A raise that does not raise, or a time that is not ahead.
    """
    book, incident = await _with_window(change, incident_id)
    decided = resolved(book, incident, decision, change.now.at)
    if decided is not incident:
        await change.budgets.approve(new_id(), incident_id, decision, change.now.at)
        await change.write(book, [decided])
    return decided


async def take_back(change: Change, incident_id: bytes) -> None:
    """End a raise until a time.

    Raises:
        NotFound: There is no such incident.
    """
    book, incident = await _with_window(change, incident_id)
    taken_back(book, incident)
    await change.write(book)


async def close_windows(change: Change, most: int) -> int:
    """Close windows that are over, at most `most` of them; return how many were looked at."""
    book = Book(change.active.terms)
    at = change.now.trusted
    count = await change.budgets.load_due(book, at, at - RUN_QUIET_MICROS, most)
    limits.close_due(book, list(book.windows.values()), change.now)
    await change.write(book)
    return count


async def _with_window(change: Change, incident_id: bytes) -> tuple[Book, Incident]:
    incident = await change.budgets.incident(incident_id)
    if incident is None:
        raise NotFound("there is no such incident")
    book = Book(change.active.terms)
    await change.budgets.load_tracks(book, {incident.window[:2]: {incident.window.starts_at}})
    return book, incident
