"""Budgets, windows and incidents as the native routes show them.

Amounts are decimal text in the budget's unit: US dollars for `cost`, whole numbers for the rest. Not
here: what is sent (`budget_forms`), routes (`budgets`, `gates`, `incidents`).
"""

from collections.abc import Mapping
from typing import Final

from bursar.budgets.alert import Alert
from bursar.budgets.budget import PPM, Action, Budget, Scope, Threshold, terms_of
from bursar.budgets.incident import Resolution
from bursar.budgets.standing import BudgetState, state_of
from bursar.budgets.window import NEVER, Window
from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import MICROS_MAX, MICROS_MIN, text_from_micros
from bursar.enforcement.reading import Approval, Seen, SeenIncident

ID: Final = "bud"
INCIDENT_ID: Final = "inc"
ALERT_ID: Final = "alr"
_UNITS: Final = {"cost": "USD", "calls": "calls", "duration": "ms", "depth": "levels", "loops": "loops"}
_TOKENS: Final = "tokens"
_AMOUNTS: Final = ("limit", "settled", "held", "remaining", "overrun", "unheld", "lowered", "late")

KeyTexts = Mapping[int, str]
"""The ids of API keys (`key_…`) by their row numbers."""


def unit_of(budget: Budget) -> str:
    """Return the unit in which a budget's amounts are written."""
    return _UNITS.get(budget.metric.value, _TOKENS)


def amount_text(budget: Budget, amount: int) -> str:
    """Return an amount in a budget's unit: US dollars as decimals, all else whole."""
    return text_from_nusd(amount) if budget.is_money else str(amount)


def budget_body(seen: Seen, keys: KeyTexts) -> dict[str, object]:
    """Return a budget with the window that counts now."""
    budget, window = seen
    state = BudgetState.OK if window is None else state_of(window, terms_of(budget))
    return {
        "id": text_from_id(ID, budget.id),
        "name": budget.name,
        "scope": scope_body(budget.scope, keys),
        "metric": budget.metric.value,
        "unit": unit_of(budget),
        "period": budget.period.value,
        "timezone": budget.zone,
        "reset_hour": budget.reset_hour,
        "limit": amount_text(budget, budget.limit),
        "mode": budget.mode.value,
        "thresholds": [_threshold_body(one) for one in budget.thresholds],
        "unpriced": budget.unpriced.value,
        "on_expiry": budget.on_expiry.value,
        "enforcement": "required" if budget.requires_hold else "optional",
        "template": budget.is_template,
        "source": budget.source,
        "created_at": text_from_micros(budget.created_at),
        "budget_state": state.value,
        "window": None if window is None else window_body(budget, window),
    }


def scope_body(scope: Scope, keys: KeyTexts) -> dict[str, object]:
    """Return the fields of a scope that are given; an empty one is the whole organisation."""
    body: dict[str, object] = {
        field: text
        for field in ("project", "agent", "user", "model", "provider", "run")
        if (text := getattr(scope, field))
    }
    if scope.api_key:
        body["api_key"] = keys.get(scope.api_key)
    if scope.tags:
        body["tags"] = dict(scope.tags)
    return body


def window_body(budget: Budget, window: Window) -> dict[str, object]:
    """Return a window. One without an end or beginning says null there."""
    ends_at = moment(window.ends_at)
    return {
        "starts_at": moment(window.starts_at),
        "ends_at": ends_at,
        "resets_at": ends_at,
        **({"run": window.key.member} if window.key.member else {}),
        "state": window.state.value,
        **{name: amount_text(budget, getattr(window, name)) for name in _AMOUNTS},
        "unpriced": window.unpriced,
        # For people: no decision rests on it.
        "used_ratio": round(window.used / window.limit, 4),
    }


def incident_body(seen: SeenIncident, keys: KeyTexts) -> dict[str, object]:
    """Return an incident with its window as it is now."""
    incident, budget, window = seen
    is_decided = incident.resolution is not Resolution.OPEN
    return {
        "id": text_from_id(INCIDENT_ID, incident.id),
        "budget_id": text_from_id(ID, budget.id),
        "budget": budget.name,
        "scope": scope_body(budget.scope, keys),
        "metric": budget.metric.value,
        "unit": unit_of(budget),
        "window": window_body(budget, window),
        "opened_at": text_from_micros(incident.opened_at),
        "amount": amount_text(budget, incident.amount),
        "resolution": incident.resolution.value,
        "actor": incident.actor or None,
        "note": incident.note,
        "limit_before": amount_text(budget, incident.limit_before) if is_decided else None,
        "until": None if incident.until is None else text_from_micros(incident.until),
        "ended_at": None if incident.ended_at is None else text_from_micros(incident.ended_at),
    }


def approval_body(budget: Budget, approval: Approval) -> dict[str, object]:
    """Return what a person decided about an incident."""
    at, decision = approval
    return {
        "at": text_from_micros(at),
        "resolution": decision.resolution.value,
        "actor": decision.actor,
        "note": decision.note,
        "limit": amount_text(budget, decision.limit) if decision.limit else None,
        "until": None if decision.until is None else text_from_micros(decision.until),
    }


def alert_body(budget: Budget, alert: Alert) -> dict[str, object]:
    """Return one thing that somebody should hear of; it names the hold or the event that caused it."""
    source = alert.source
    return {
        "id": text_from_id(ALERT_ID, alert.id),
        "at": text_from_micros(alert.at),
        "type": alert.occasion.value,
        "budget_id": text_from_id(ID, budget.id),
        "window_starts_at": None if alert.starts_at is None else moment(alert.starts_at),
        "amount": amount_text(budget, alert.amount),
        "threshold": alert.share_ppm / PPM if alert.share_ppm else None,
        "agent": alert.agent or None,
        "hold_id": text_from_id("hold", source) if source and not alert.is_of_event else None,
        "event_id": text_from_id("evt", source) if source and alert.is_of_event else None,
    }


def moment(at: int) -> str | None:
    """Return a window's edge as text; None for a missing end or beginning."""
    return None if at == NEVER or not MICROS_MIN < at <= MICROS_MAX else text_from_micros(at)


def _threshold_body(threshold: Threshold) -> dict[str, object]:
    body: dict[str, object] = {"at": threshold.at_ppm / PPM, "action": threshold.action.value}
    if threshold.action is Action.CLAMP:
        body["max_output_tokens"] = threshold.clamp_output_tokens
    if threshold.latch:
        body["latch"] = True
    return body
