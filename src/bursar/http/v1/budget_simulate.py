"""`POST /v1/budgets/simulate`: what a proposed budget would have done to past calls. Writes nothing.

Each past call asks for what it really used, so a real budget, which holds a worst case, would
refuse a little earlier. Not here: the decisions (`budgets.simulate`), reading (`storage`).
"""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bursar.budgets.book import Notice
from bursar.budgets.budget import PPM, Budget
from bursar.budgets.reading import budget_from_fields
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Spend
from bursar.capture import checks
from bursar.core.errors import Denied, InvalidInput
from bursar.core.ids import id_from_text, new_id, text_from_id
from bursar.core.time import Clock, text_from_micros
from bursar.enforcement.history import History, PastRange, Replay, Replayer
from bursar.enforcement.reading import Seen
from bursar.http.v1.budget_answers import KeyTexts, amount_text, budget_body, moment, window_body
from bursar.http.v1.budget_forms import Fields, documented_body, fields_of, only
from bursar.http.v1.report_query import TEXT_MAX, RangeParams, answer, range_of
from bursar.identity.keys import Scope
from bursar.identity.ports import KeyStore
from bursar.web.guard import Guard
from bursar.web.principal import Principal

LISTED_MAX: Final = 1_000
"""Windows and alerts of one answer, the oldest first; the refusals have the same bound."""

_NAMES: Final = ("project", "agent", "user", "model", "provider", "run")
_TIME: Final = {"type": "string", "description": "A day (2026-03-01) or an RFC 3339 time."}
_DOCUMENTED: Final = documented_body(
    {
        "budget": {"type": "object", "description": "As in POST /v1/budgets."},
        "from": {**_TIME, "description": f"{_TIME['description']} 30 days back by default."},
        "to": {**_TIME, "description": "Last day, included, or the instant at which the range ends."},
    },
    "budget",
)


def budget_simulate_router(guard: Guard, history: History, keys: KeyStore, clock: Clock) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/budgets", tags=["budgets"])
    replayer = Replayer(history)

    @router.post("/simulate", operation_id="budgets_simulate", openapi_extra=_DOCUMENTED)
    async def simulate(
        principal: Annotated[Principal, Depends(guard(Scope.READ))], request: Request
    ) -> Response:
        """Show who would have been refused by a budget, when, and in which window.

        Calls are read oldest first, at most half a million; `truncated` says that there were more, and
        `to` up to when they were read.
        """
        _require_whole(principal)
        fields = await fields_of(request)
        only(fields, "budget", "from", "to")
        org, now = principal.org, clock()
        zone = await history.zone(org)
        key_numbers = {key.id: key.number for key in await keys.list(org)}
        budget = _budget_of(fields.get("budget"), now, zone, key_numbers)
        asked = range_of(RangeParams(from_=_text(fields, "from"), to=_text(fields, "to")), zone, now)
        within = PastRange(*asked.span)
        replay = await replayer.replay(org, budget, within)
        texts = {number: text_from_id("key", key) for key, number in key_numbers.items()}
        return answer(_body(budget, within, replay, texts))

    return router


def _budget_of(value: object, now: int, zone: str, key_numbers: Mapping[bytes, int]) -> Budget:
    """Return the proposed budget.

    Raises:
        InvalidInput: As making it would; the field is the path in this request (`budget.limit`).
    """
    if not isinstance(value, dict):
        raise InvalidInput('budget must be an object, for example {"limit": "1.00"}', field="budget")
    try:
        fields = _checked(value, key_numbers)
        budget = budget_from_fields(fields, budget_id=new_id(), created_at=now, zone=zone)
    except InvalidInput as error:
        detail = error.detail if error.field is None else f"budget.{error.detail}"
        raise type(error)(detail, field=f"budget.{error.field}" if error.field else "budget") from None
    if budget.is_template:
        raise InvalidInput(
            "budget.template: a template counts nothing; simulate the budget of one agent",
            field="budget.template",
        )
    return budget


def _checked(fields: Fields, key_numbers: Mapping[bytes, int]) -> Fields:
    """Return the fields with names checked and the API key as its row number."""
    scope = fields.get("scope")
    if not isinstance(scope, Mapping):
        return fields
    for field in _NAMES:
        if isinstance(scope.get(field), str):
            checks.optional_name(scope[field], f"scope.{field}")
    if "api_key" not in scope:
        return fields
    field, named = "scope.api_key", scope["api_key"]
    number = key_numbers.get(id_from_text(named, field=field)) if isinstance(named, str) else None
    if number is None:
        raise InvalidInput(f"{field} is no key of this organisation; GET /v1/keys lists them", field=field)
    return {**fields, "scope": {**scope, "api_key": number}}


def _text(fields: Fields, field: str) -> str | None:
    value = fields.get(field)
    if value is not None and (not isinstance(value, str) or len(value) > TEXT_MAX):
        raise InvalidInput(f"{field} must be a day or an RFC 3339 time as text", field=field)
    return value


def _require_whole(principal: Principal) -> None:
    """Refuse a key that is bound to a part of the organisation.

    Raises:
        Denied: A simulation reads everybody's calls.
    """
    if principal.project or principal.agent:
        raise Denied("this key is bound to one project or agent; a simulation reads everybody's calls")


def _body(budget: Budget, within: PastRange, replay: Replay, keys: KeyTexts) -> dict[str, object]:
    found = replay.simulation
    ends_at = within.ends_at if replay.read_until is None else replay.read_until
    proposed = budget_body(Seen(budget, None), keys)
    for field in ("id", "created_at", "budget_state", "window"):
        del proposed[field]
    windows = [
        {**window_body(budget, window), "refused": found.refused_in[window.key]}
        for window in found.windows[:LISTED_MAX]
    ]
    return {
        "budget": proposed,
        "from": moment(within.starts_at),
        "to": moment(ends_at),
        "events_read": replay.events_read,
        "matched": found.matched,
        "refused": found.refused,
        "refused_amount": amount_text(budget, found.refused_amount),
        "first_refusal_at": text_from_micros(found.refusals[0][0].occurred_at) if found.refusals else None,
        "refusals": [_refusal(budget, spend, refusal) for spend, refusal in found.refusals],
        "windows": windows,
        "windows_count": len(found.windows),
        "alerts": [_alert(notice) for notice in found.notices[:LISTED_MAX]],
        "alerts_count": len(found.notices),
        "truncated": replay.read_until is not None,
    }


def _refusal(budget: Budget, spend: Spend, refusal: Refused | Stopped) -> dict[str, object]:
    """Return one call that would have been refused, with the window's numbers at that moment."""
    amount = spend.amounts[budget.metric.column]
    limit, settled = budget.limit, None
    if isinstance(refusal, Refused):
        reason, limit, settled = refusal.reason.value, refusal.limit, amount_text(budget, refusal.settled)
    else:
        reason = f"agent_{refusal.state.value}"
    return {
        "at": text_from_micros(spend.occurred_at),
        "event_id": text_from_id("evt", spend.key),
        "agent": spend.call.agent or None,
        "model": spend.call.model or None,
        "run": spend.call.run or None,
        "amount": None if amount is None else amount_text(budget, amount),
        "reason": reason,
        "window_starts_at": moment(refusal.window.starts_at) if refusal.window else None,
        "settled": settled,
        "limit": amount_text(budget, limit),
    }


def _alert(notice: Notice) -> dict[str, object]:
    return {
        "type": notice.occasion.value,
        "threshold": notice.share_ppm / PPM if notice.share_ppm else None,
        "window_starts_at": moment(notice.window.starts_at) if notice.window else None,
    }
