"""Changes of budgets, gates and incidents by people and agents, each within one transaction.

    PUT, PATCH, DELETE, kill, resume, approve  →  desk.change  →  here  →  storage

Takes its place among the authorisations, so a change is effective for the next one. Not here:
who may change what (`identity`), the rules (`budgets.limits`, `budgets.gate`, `budgets.incident`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bursar.budgets import limits
from bursar.budgets.book import Book, Notice
from bursar.budgets.budget import Budget, terms_of
from bursar.budgets.clock import Now
from bursar.budgets.gate import Gate, GateKey, Gates
from bursar.budgets.incident import Decision, Incident, Resolution, resolved, taken_back
from bursar.budgets.matching import BudgetIndex, check_room_for
from bursar.budgets.ports import BudgetStore
from bursar.budgets.settlement import alert
from bursar.budgets.window import RUN_QUIET_MICROS, Window
from bursar.core.audit import AuditEntry
from bursar.core.errors import Conflict, InvalidInput, NotFound
from bursar.core.ids import new_id, text_from_id
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

    async def record(self, actor: str, action: str, target: str, details: Mapping[str, object]) -> None:
        """Write down who did what, in the same commit."""
        entry = AuditEntry(at=self.now.at, actor=actor, action=action, target=target, details=details)
        await self.unit.record(entry)

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
    old = change.named(budget_id)
    return await _replace(change, old, msgspec.structs.replace(old, limit=limit), is_resized=True)


async def move_zone(change: Change, budget_id: bytes, zone: str) -> Budget:
    """Have a budget's next windows begin by another zone's clocks.

    Raises:
        NotFound: There is no such budget.
    """
    old = change.named(budget_id)
    return await _replace(change, old, msgspec.structs.replace(old, zone=zone), is_moved=True)


async def change_fields(change: Change, budget_id: bytes, how: Callable[[Budget], Budget]) -> Budget:
    """Change a budget at once in whatever `how` changes: never its id, scope, metric or period.

    A new limit is that of the running windows too; thresholds that these have passed already
    are told now. A soft budget that becomes hard lists what it let pass beyond its limit.

    Raises:
        NotFound: There is no such budget.
        TooManyBudgets: It would refuse from now on, and some call would meet too many that do.
        InvalidAmount: The new limit is not above zero.
    """
    old = change.named(budget_id)
    new = how(old)
    if new.is_binding and not old.is_binding:
        check_room_for(new, [terms.budget for terms in change.active.terms.values()])
    if new.is_hard and not old.is_hard:
        await change.budgets.list_excess(budget_id)
    if new == old:
        return old
    is_moved = new.zone != old.zone and not old.is_template
    return await _replace(change, old, new, is_moved=is_moved, is_resized=new.limit != old.limit)


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
        Conflict: It was decided otherwise before, or a raise comes after its window's end.
        InvalidInput: A raise that does not raise, or a time that is not ahead.
    """
    book, incident = await _with_window(change, incident_id)
    if incident.resolution is not Resolution.OPEN:
        _check_repeat(incident, await change.budgets.approved(incident_id), decision)
    elif decision.resolution is not Resolution.KEPT_STOPPED:
        _check_raise(book.windows[incident.window], decision.limit, change.now)
    decided = resolved(book, incident, decision, change.now.at)
    if decided is not incident:
        await change.budgets.approve(new_id(), incident_id, decision, change.now.at)
        await change.write(book, [decided])
    return decided


async def take_back(change: Change, incident_id: bytes) -> None:
    """End a raise until a time. A repeat changes nothing.

    A limit that somebody has changed since stays, and so does that of a window that is over. Another
    raise that began from this one's limit, and still stands, will come down to where this one began.

    Raises:
        NotFound: There is no such incident.
    """
    book, incident = await _with_window(change, incident_id)
    raised = await change.budgets.approved(incident_id)
    if incident.resolution is not Resolution.RAISED_UNTIL or incident.ended_at is not None or raised is None:
        return
    window = book.windows[incident.window]
    before = window.limit
    if before == raised.limit and not window.is_past(change.now.trusted):
        taken_back(book, incident)
    later = [
        msgspec.structs.replace(other, limit_before=incident.limit_before)
        for other in await change.budgets.standing_raises(incident.window)
        if other.id != incident_id and other.limit_before == raised.limit
    ]
    await change.write(book, [msgspec.structs.replace(incident, ended_at=change.now.at), *later])
    details = {"before": {"limit": before}, "after": {"limit": window.limit}}
    await change.record("job:holds", "incident.take_back", text_from_id("inc", incident_id), details)


async def close_windows(change: Change, most: int) -> int:
    """Close windows that are over, at most `most` of them; return how many were looked at."""
    book = Book(change.active.terms)
    at = change.now.trusted
    count = await change.budgets.load_due(book, at, at - RUN_QUIET_MICROS, most)
    limits.close_due(book, list(book.windows.values()), change.now)
    await change.write(book)
    return count


async def _replace(
    change: Change, old: Budget, new: Budget, *, is_moved: bool = False, is_resized: bool = False
) -> Budget:
    """Store a budget's new form, and give its running windows what follows from it."""
    book = Book({**change.active.terms, old.id: terms_of(new)})
    await change.budgets.load_tracks(book, {(old.id, ""): {change.now.at}})
    await change.budgets.load_running(book, old.id)
    if is_moved:
        # A running window that nothing has touched is made by the clocks and with the limit it had.
        limits.move_zone(book, old, new.zone, change.now)
    if is_resized:
        limits.change_limit(book, new, new.limit, change.now)
    if (new.thresholds, new.mode) != (old.thresholds, old.mode):
        _tell_reached(book, old.id, change.now)
    await change.budgets.put(new)
    await change.write(book)
    return new


def _check_raise(window: Window, limit: int, now: Now) -> None:
    if window.is_past(now.trusted):
        raise Conflict("the incident's window is over; raise the budget's own limit instead")
    if limit <= window.limit:
        raise InvalidInput("limit must be above the present one, or it is no raise", field="limit")


def _check_repeat(incident: Incident, first: Decision | None, decision: Decision) -> None:
    wanted = (decision.resolution, decision.limit, decision.until)
    if first is None or (first.resolution, first.limit, first.until) != wanted:
        raise Conflict(f"the incident is {incident.resolution.value} already; it is decided once")


def _tell_reached(book: Book, budget_id: bytes, now: Now) -> None:
    """Raise the thresholds that a budget's running windows have reached by its new rules."""
    for window in book.windows.values():
        if window.key.budget == budget_id and not window.is_past(now.trusted):
            book.touch(window)
            alert(book, window)


async def _with_window(change: Change, incident_id: bytes) -> tuple[Book, Incident]:
    incident = await change.budgets.incident(incident_id)
    if incident is None:
        raise NotFound("there is no such incident")
    book = Book(change.active.terms)
    await change.budgets.load_tracks(book, {incident.window[:2]: {incident.window.starts_at}})
    return book, incident
