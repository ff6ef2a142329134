"""What people and keys change, each with who did it in the audit log, in one transaction.

    http, dialects  →  desk.change  →  here  →  changes

Not here: the changes themselves (`changes`), who may ask for them (`identity`).
"""

from collections.abc import Callable

import msgspec

from bursar.budgets import gate
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, GateKey, Gates, GateState, Owner, Stop
from bursar.budgets.hold import Hold
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.core.errors import Conflict, IdempotencyConflict
from bursar.core.ids import text_from_id
from bursar.enforcement import changes
from bursar.enforcement.changes import Change
from bursar.enforcement.commits import loaded
from bursar.enforcement.questions import Question
from bursar.enforcement.seeing import Sighted

KEYED_BYTES = 8
"""The first half of an id that was made from an idempotency key; the second half is the body's."""

_VERBS = {GateState.KILLED: "gate.kill", GateState.PAUSED: "gate.pause", GateState.ALIVE: "gate.resume"}
_DECISIONS = {
    Resolution.RAISED: "incident.raise",
    Resolution.RAISED_UNTIL: "incident.raise",
    Resolution.KEPT_STOPPED: "incident.keep",
}


async def create_budget(change: Change, budget: Budget, *, actor: str, is_keyed: bool = False) -> bool:
    """Store a new budget; tell whether it is new.

    Args:
        change: The transaction.
        budget: As `budget_from_fields` gives it.
        actor: Who asks.
        is_keyed: Its id was made of an idempotency key and a body, half and half.

    Raises:
        IdempotencyConflict: The key stands for another body.
        Conflict: The key's budget was deleted since.
        TooManyBudgets: Some call would meet more budgets than can be decided at once.
    """
    if is_keyed and await _is_there(change, budget.id):
        return False
    await changes.create(change, budget)
    await change.record(actor, "budget.create", _target(budget.id), {"after": _plain(budget)})
    return True


async def change_budget(
    change: Change, budget_id: bytes, how: Callable[[Budget], Budget], *, actor: str
) -> Budget:
    """Change a budget; see `changes.change_fields` for what it raises."""
    old = _plain(change.named(budget_id))
    changed = await changes.change_fields(change, budget_id, how)
    new = _plain(changed)
    if new != old:
        differing = [field for field in new if new[field] != old[field]]
        details = {
            "before": {field: old[field] for field in differing},
            "after": {field: new[field] for field in differing},
        }
        await change.record(actor, "budget.update", _target(budget_id), details)
    return changed


async def delete_budget(change: Change, budget_id: bytes, *, actor: str) -> None:
    """End a budget.

    Raises:
        NotFound: There is no such budget.
    """
    old = change.named(budget_id)
    await changes.delete(change, budget_id)
    await change.record(actor, "budget.delete", _target(budget_id), {"before": _plain(old)})


async def set_gate(
    change: Change, key: GateKey, state: GateState, *, actor: str, reason: str = ""
) -> tuple[Gate, bool]:
    """Kill, pause or resume an agent, a project or the organisation for a person.

    Resuming ends every owner's stop. A kill comes instead of a pause, and a pause instead of a kill.

    Returns:
        The gate, and whether anything has changed.
    """
    before: list[Gate] = []

    def how(gates: Gates) -> Gate:
        before.append(gates.of(key))
        if state is GateState.ALIVE:
            return gate.resume(gates, key, Owner.MANUAL)
        return gate.stop(gates, key, Stop(Owner.MANUAL, state, change.now.at, reason, actor))

    after = await changes.change_gate(change, key, how)
    is_changed = after.epoch != before[0].epoch
    if is_changed:
        details = {"before": _stops(before[0]), "after": _stops(after), "reason": reason}
        target = f"{key.kind.value}:{key.name}" if key.name else key.kind.value
        await change.record(actor, _VERBS[state], target, details)
    return after, is_changed


async def void_hold(
    change: Change, question: Question[Sighted[Hold]], *, actor: str, reason: str = ""
) -> Sighted[Hold]:
    """Give a hold's room back for somebody who says why, or for an operator; a repeat changes nothing.

    Args:
        change: The transaction.
        question: A `Void` and a look at the hold's windows.
        actor: Who asks.
        reason: Why.

    Raises:
        NotFound: There is no such hold.
        HoldResolved: It has ended in another way.
    """
    scene = await loaded(change.budgets, change.active, [question], change.now)
    named = scene.book.holds.get(question.hold_id or b"")
    before = None if named is None else named.state
    sighted = question.decide(scene)
    await change.write(scene.book)
    hold = sighted.answer
    if hold.state is not before:
        target = text_from_id("hold" if hold.lease is None else "lse", hold.id)
        details = {"before": before, "after": hold.state, "agent": hold.call.agent, "reason": reason}
        await change.record(actor, "hold.void", target, details)
    return sighted


async def decide(change: Change, incident_id: bytes, decision: Decision) -> Incident:
    """Decide an incident for a person; see `changes.resolve` for what it raises."""
    found = await change.budgets.incident(incident_id)
    decided = await changes.resolve(change, incident_id, decision)
    if decided != found:
        details = {
            "before": {"resolution": Resolution.OPEN.value, "limit": decided.limit_before},
            "after": {
                "resolution": decision.resolution.value,
                "limit": decision.limit or decided.limit_before,
                "until": decision.until,
            },
            "note": decision.note,
        }
        target = text_from_id("inc", incident_id)
        await change.record(decision.actor, _DECISIONS[decision.resolution], target, details)
    return decided


async def _is_there(change: Change, budget_id: bytes) -> bool:
    """Tell whether an idempotency key has made this very budget before."""
    start = budget_id[:KEYED_BYTES]
    rest = len(budget_id) - KEYED_BYTES
    made = await change.budgets.named_between(start + bytes(rest), start + b"\xff" * rest)
    if not made:
        return False
    if made[0].id != budget_id:
        raise IdempotencyConflict("the idempotency key stands for another budget; nothing was changed")
    if budget_id not in change.active.terms:
        raise Conflict("the budget of this idempotency key was deleted since; send another key")
    return True


def _target(budget_id: bytes) -> str:
    return text_from_id("bud", budget_id)


def _plain(budget: Budget) -> dict[str, object]:
    """Return a budget's fields as they are stored; the limit in whole units, money in nano-USD."""
    plain: dict[str, object] = msgspec.to_builtins(budget)
    del plain["id"]
    return plain


def _stops(one: Gate) -> object:
    return msgspec.to_builtins(one.stops)
