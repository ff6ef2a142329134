"""Prove holds one by one (I10): a state agrees with its legs, its settlement and its end.

A hold ends once. What it says of its settlement must be what its one posting says. Not here: what its
legs add up to (`verify_windows`).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import DEPTH, Amounts
from bursar.budgets.book import Effect
from bursar.budgets.hold import Hold, HoldKind, HoldState
from bursar.budgets.window import WindowKey
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.verify_ports import Row
from bursar.storage.sql.verify_scope import Scope

_CHECK = "holds"
_ROWS = f"""SELECT {rows.HOLD_COLUMNS}, effect, parts
    FROM hold h {{index}} LEFT JOIN posting p ON p.org = h.org AND p.source = h.id AND p.part = 0
    WHERE h.org = ?1"""
_PLAIN = _ROWS.format(index="")
ALL = f"{_PLAIN} ORDER BY id"
BETWEEN = f"{_PLAIN} AND id > ?2 AND id <= ?3 ORDER BY id"
SOME = f"{_PLAIN} AND {{}}"
"""Of `Scope.among`, by their ids."""

ID = "id = ?"
OPEN = f"{_ROWS.format(index='INDEXED BY hold_open')} AND state = 'open'"
SUSPENDED = f"{_ROWS.format(index='INDEXED BY hold_suspense')} AND state = 'suspense'"

UNRESOLVED = frozenset({HoldState.OPEN, HoldState.SUSPENSE})
_EFFECTS = {
    HoldState.SETTLED: Effect.SETTLED,
    HoldState.SETTLED_LATE: Effect.LATE,
    HoldState.VOIDED: Effect.UNHELD,
}
"""How a call's hold in each state was settled; one that was voided may be settled after it."""


class _Fault(NamedTuple):
    name: str
    expected: object
    found: object


def check(scope: Scope, found: Iterable[Row]) -> Iterator[tuple[bytes, Hold | None, bool]]:
    """Check each hold of one of this module's statements.

    Gives its id, itself (None where it cannot be read), and whether it is sound.
    """
    count = 0
    for *row, effect, packed in found:
        count += 1
        try:
            hold = rows.hold_of(tuple(row))
            parts = None if packed is None else rows.parts_of(packed)
        except (msgspec.MsgspecError, ValueError, TypeError):
            _note(scope, row[0], _Fault("row", "a hold that can be read", None))
            yield row[0], None, False
            continue
        faults = (*_faults_of_state(hold), *_faults_of_legs(hold), *_faults_of_end(hold, effect, parts))
        for fault in faults:
            _note(scope, hold.id, fault)
        yield hold.id, hold, not faults
    scope.findings.checked(_CHECK, count)


def _faults_of_state(hold: Hold) -> Iterator[_Fault]:
    is_open = [leg.is_open for leg in hold.legs]
    if hold.state is HoldState.OPEN and not all(is_open):
        yield _Fault("legs", "all of them open", f"{sum(is_open)} of {len(is_open)}")
    if hold.state is HoldState.SUSPENSE and not any(is_open):
        yield _Fault("legs", "one that is open", "none")
    if hold.state not in UNRESOLVED and any(is_open):
        yield _Fault("legs", "none that is open", sum(is_open))
    if (hold.ended_at is None) is not (hold.state in UNRESOLVED):
        wanted = None if hold.state in UNRESOLVED else "a time"
        yield _Fault("ended_at", wanted, hold.ended_at)
    if (hold.kind is HoldKind.LEASE) is (hold.lease is None):
        yield _Fault("lease", "what a lease has beyond a hold", hold.kind.value)


def _faults_of_legs(hold: Hold) -> Iterator[_Fault]:
    windows = {leg.window for leg in hold.legs}
    if len(windows) < len(hold.legs):
        yield _Fault("legs", f"one in each of {len(windows)} windows", len(hold.legs))
    for leg in hold.legs:
        most = leg.amount if leg.is_open else 0
        if not 0 <= leg.held <= most:
            yield _Fault("legs", f"held from 0 to {most}", leg.held)


def _faults_of_end(hold: Hold, effect: str | None, parts: rows.Parts | None) -> Iterator[_Fault]:
    """Compare what a hold says of its settlement with its posting."""
    wanted = _EFFECTS.get(hold.state)
    if hold.settled is None:
        if hold.kind is HoldKind.CALL and wanted in {Effect.SETTLED, Effect.LATE}:
            yield _Fault("settled", "amounts", None)
        if effect is not None:
            yield _Fault("posting", None, effect)
        return
    if hold.settle_key is None:
        yield _Fault("settle_key", "the key of its settlement", None)
    if wanted is None:
        yield _Fault("settled", None, hold.state.value)
    elif effect != wanted and (effect is not None or hold.legs):
        yield _Fault("posting", wanted.value, effect)
    if effect is not None:
        yield from _faults_of_parts(hold, hold.settled, parts or ())


def _faults_of_parts(hold: Hold, settled: Amounts, parts: rows.Parts) -> Iterator[_Fault]:
    posted: dict[WindowKey, int] = {}
    for key, amount in parts:
        posted[key] = posted.get(key, 0) + amount
    for leg in hold.legs:
        # What a guard of runs counts was known at the grant.
        amount = leg.amount if leg.column >= DEPTH else settled[leg.column] or 0
        if posted.get(leg.window) != amount:
            yield _Fault("posting's parts", amount, posted.get(leg.window))


def _note(scope: Scope, hold_id: bytes, fault: _Fault) -> None:
    key = f"id={hold_id.hex()}: {fault.name}"
    scope.differs(_CHECK, "hold", key, expected=fault.expected, found=fault.found)
