"""Rows of budgets, windows, holds and gates, to values and back.

What is only ever read whole is packed: legs and postings' parts as MessagePack (they hold ids),
the rest as JSON text, which a person with a SQL shell can read. Column lists and
functions of one table keep the same order.
"""

from typing import Any, Final

import msgspec

from bursar.budgets.alert import Alert
from bursar.budgets.amounts import Amounts, Metric
from bursar.budgets.book import Occasion
from bursar.budgets.budget import Budget, Mode, OnExpiry, Scope, Threshold, Unpriced
from bursar.budgets.gate import Gate, GateKey, GateKind, Stop
from bursar.budgets.hold import Hold, HoldKind, HoldState, LeaseState, Leg
from bursar.budgets.incident import Incident, Resolution
from bursar.budgets.matching import Call
from bursar.budgets.window import Window, WindowKey, WindowState
from bursar.core.periods import Period

Row = tuple[Any, ...]
"""As SQLite gives and takes it; the functions here give it its types."""
Parts = tuple[tuple[WindowKey, int], ...]

BUDGET_COLUMNS: Final = """id, name, scope, metric, period, zone, reset_hour, limit_amount, mode, thresholds,
    unpriced, on_expiry, requires_hold, source, created_at, is_template"""
WINDOW_COLUMNS: Final = """budget, member, starts_at, ends_at, limit_amount, state, settled, held, overrun,
    unheld, lowered, late, unpriced, open_legs, alerted, has_incident, touched_at, recent"""
HOLD_COLUMNS: Final = """id, key, digest, state, kind, call, amounts, legs, created_at, deadline_at,
    expires_at, max_output_tokens, parent, settle_key, settled, lease, ended_at"""
INCIDENT_COLUMNS: Final = """id, budget, member, starts_at, opened_at, amount, resolution, actor, note,
    limit_before, until, ended_at"""

ALERT_COLUMNS: Final = "id, at, type, budget, member, starts_at, amount, share_ppm, agent, source"

_NO_ALERTS = "[]"
_NONE_RECENT = ""
_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_scope = msgspec.json.Decoder(Scope).decode
_thresholds = msgspec.json.Decoder(tuple[Threshold, ...]).decode
_numbers = msgspec.json.Decoder(tuple[int, ...]).decode
_call = msgspec.json.Decoder(Call).decode
_amounts = msgspec.json.Decoder(Amounts).decode
_stops = msgspec.json.Decoder(tuple[Stop, ...]).decode
_legs = msgspec.msgpack.Decoder(tuple[Leg, ...]).decode
_lease = msgspec.msgpack.Decoder(LeaseState).decode
_parts = msgspec.msgpack.Decoder(Parts).decode


def row_of_budget(budget: Budget) -> Row:
    """Return the values of `BUDGET_COLUMNS`."""
    b = budget
    return (
        b.id, b.name, _json(b.scope).decode(), b.metric.value, b.period.value, b.zone, b.reset_hour, b.limit,
        b.mode.value, _json(b.thresholds).decode(), b.unpriced.value, b.on_expiry.value,
        int(b.requires_hold), b.source, b.created_at, int(b.is_template),
    )  # fmt: skip


def budget_of(row: Row) -> Budget:
    """Return the budget of a row."""
    (
        budget_id, name, scope, metric, period, zone, reset_hour, limit, mode, thresholds, unpriced,
        on_expiry, requires_hold, source, created_at, is_template,
    ) = row  # fmt: skip
    return Budget(
        id=budget_id,
        limit=limit,
        created_at=created_at,
        name=name,
        scope=_scope(scope),
        metric=Metric(metric),
        period=Period(period),
        zone=zone,
        reset_hour=reset_hour,
        mode=Mode(mode),
        thresholds=_thresholds(thresholds),
        unpriced=Unpriced(unpriced),
        on_expiry=OnExpiry(on_expiry),
        requires_hold=bool(requires_hold),
        source=source,
        is_template=bool(is_template),
    )


def row_of_window(window: Window) -> Row:
    """Return the values of `WINDOW_COLUMNS`."""
    w = window
    alerted = _json(w.alerted).decode() if w.alerted else _NO_ALERTS
    recent = _json(w.recent).decode() if w.recent else _NONE_RECENT
    return (
        *w.key, w.ends_at, w.limit, w.state.value, w.settled, w.held, w.overrun, w.unheld, w.lowered, w.late,
        w.unpriced, w.open_legs, alerted, int(w.has_incident), w.touched_at, recent,
    )  # fmt: skip


def window_of(row: Row) -> Window:
    """Return the window of a row."""
    (
        budget, member, starts_at, ends_at, limit, state, settled, held, overrun, unheld, lowered, late,
        unpriced, open_legs, alerted, has_incident, touched_at, recent,
    ) = row  # fmt: skip
    return Window(
        WindowKey(budget, member, starts_at), ends_at, limit, WindowState(state), settled, held, overrun,
        unheld, lowered, late, unpriced, open_legs, () if alerted == _NO_ALERTS else _numbers(alerted),
        bool(has_incident), touched_at, () if recent == _NONE_RECENT else _numbers(recent),
    )  # fmt: skip


def row_of_hold(hold: Hold) -> Row:
    """Return the values of `HOLD_COLUMNS`."""
    h = hold
    settled = None if h.settled is None else _json(h.settled).decode()
    lease = None if h.lease is None else _pack(h.lease)
    return (
        h.id, h.key, h.digest, h.state.value, h.kind.value, _json(h.call).decode(), _json(h.amounts).decode(),
        _pack(h.legs), h.created_at, h.deadline_at, h.expires_at, h.max_output_tokens, h.parent, h.settle_key,
        settled, lease, h.ended_at,
    )  # fmt: skip


def hold_of(row: Row) -> Hold:
    """Return the hold of a row."""
    (
        hold_id, key, digest, state, kind, call, amounts, legs, created_at, deadline_at, expires_at,
        max_output_tokens, parent, settle_key, settled, lease, ended_at,
    ) = row  # fmt: skip
    return Hold(
        id=hold_id,
        key=key,
        digest=digest,
        call=_call(call),
        created_at=created_at,
        deadline_at=deadline_at,
        expires_at=expires_at,
        amounts=_amounts(amounts),
        legs=_legs(legs),
        state=HoldState(state),
        kind=HoldKind(kind),
        max_output_tokens=max_output_tokens,
        parent=parent,
        settle_key=settle_key,
        settled=None if settled is None else _amounts(settled),
        lease=None if lease is None else _lease(lease),
        ended_at=ended_at,
    )


def legs_of(packed: bytes) -> tuple[Leg, ...]:
    """Return the legs of a hold's column."""
    return _legs(packed)


def packed_parts(parts: Parts) -> bytes:
    """Return a posting's column of windows and amounts."""
    return _pack(parts)


def parts_of(packed: bytes) -> Parts:
    """Return the windows of a posting and what was added to each."""
    return _parts(packed)


def row_of_gate(gate: Gate) -> Row:
    """Return kind, name, epoch and stops."""
    return (gate.key.kind.value, gate.key.name, gate.epoch, _json(gate.stops).decode())


def gate_of(row: Row) -> Gate:
    """Return the gate of a row."""
    kind, name, epoch, stops = row
    return Gate(GateKey(GateKind(kind), name), _stops(stops), epoch)


def row_of_incident(incident: Incident) -> Row:
    """Return the values of `INCIDENT_COLUMNS`."""
    i = incident
    return (
        i.id, *i.window, i.opened_at, i.amount, i.resolution.value, i.actor, i.note, i.limit_before, i.until,
        i.ended_at,
    )  # fmt: skip


def incident_of(row: Row) -> Incident:
    """Return the incident of a row."""
    (
        incident_id, budget, member, starts_at, opened_at, amount, resolution, actor, note, limit_before,
        until, ended_at,
    ) = row  # fmt: skip
    return Incident(
        incident_id,
        WindowKey(budget, member, starts_at),
        opened_at,
        amount,
        Resolution(resolution),
        actor,
        note,
        limit_before,
        until,
        ended_at,
    )


def row_of_alert(alert: Alert) -> Row:
    """Return the values of `ALERT_COLUMNS`."""
    a = alert
    return (
        a.id, a.at, a.occasion.value, a.budget, a.member, a.starts_at, a.amount, a.share_ppm, a.agent,
        a.source,
    )  # fmt: skip


def alert_of(row: Row) -> Alert:
    """Return the alert of a row."""
    alert_id, at, occasion, *rest = row
    return Alert(alert_id, at, Occasion(occasion), *rest)
