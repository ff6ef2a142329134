"""Read a budget from the fields of a request, and say precisely which field is wrong.

    http, cli  →  budget_from_fields  →  Budget

Takes decoded JSON: amounts as decimal text or whole numbers, thresholds as numbers or
objects, zone as a name. Every refusal is an `InvalidInput` whose `field` is the path in
the request (`thresholds[2].at`), and nothing is half read.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from bursar.budgets.amounts import AMOUNT_MAX, Metric
from bursar.budgets.budget import (
    DEFAULT_THRESHOLDS,
    PPM,
    Action,
    Budget,
    Mode,
    OnExpiry,
    Scope,
    Threshold,
    Unpriced,
)
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.money import nusd_from_text
from bursar.core.periods import RESET_HOUR_MAX, Period
from bursar.core.usage import TOKENS_MAX
from bursar.core.zones import parse_zone

THRESHOLDS_MAX = 10
NAME_LENGTH_MAX = 200
SCOPE_NAME_LENGTH_MAX = 256
"""As long as a call's names may be: each of them must be a budget's to count."""
TAGS_MAX = 16
SHARE_MAX = 10
"""The largest threshold, as a multiple of the limit."""

_FIELDS = frozenset(
    {
        "name", "scope", "metric", "period", "limit", "mode", "timezone", "reset_hour", "thresholds",
        "unpriced", "on_expiry", "enforcement", "template",
    }
)  # fmt: skip
_SCOPE_FIELDS = frozenset({"project", "agent", "user", "api_key", "model", "provider", "run", "tags"})
_THRESHOLD_FIELDS = frozenset({"at", "action", "max_output_tokens", "latch"})
_PERIOD_ALIASES = {"per_run": Period.RUN}

Choice = TypeVar("Choice", bound=StrEnum)


def budget_from_fields(
    fields: Mapping[str, object], *, budget_id: bytes, created_at: int, zone: str = "UTC"
) -> Budget:
    """Return the budget that `fields` describe.

    Args:
        fields: As in `POST /v1/budgets`; only `limit` is required.
        budget_id: Its id, fresh.
        created_at: Microseconds UTC.
        zone: The organisation's zone, used when `timezone` is not given.

    Raises:
        InvalidInput: A field is unknown, missing or wrong; `field` is its path.
    """
    _only_known(fields, _FIELDS, "")
    metric = _choice(Metric, fields.get("metric", Metric.COST), "metric")
    zone_name = _text(fields.get("timezone", zone), "timezone")
    parse_zone(zone_name)
    mode = _choice(Mode, fields.get("mode", Mode.HARD), "mode")
    scope = scope_from_fields(fields.get("scope", {}))
    is_template = _flag(fields.get("template", False), "template")
    if is_template and scope.agent:
        raise InvalidInput("a template is for every agent; leave scope.agent out", field="scope.agent")
    return Budget(
        id=budget_id,
        created_at=created_at,
        name=_text(fields.get("name", ""), "name"),
        scope=scope,
        metric=metric,
        period=_period(fields.get("period", Period.DAILY)),
        zone=zone_name,
        reset_hour=_whole(fields.get("reset_hour", 0), "reset_hour", 0, RESET_HOUR_MAX),
        limit=limit_from(fields.get("limit"), metric),
        mode=mode,
        thresholds=thresholds_from(fields.get("thresholds")),
        unpriced=_choice(Unpriced, fields.get("unpriced", Unpriced.BLOCK), "unpriced"),
        on_expiry=_choice(OnExpiry, fields.get("on_expiry", OnExpiry.RELEASE), "on_expiry"),
        requires_hold=_choice(_Enforcement, fields.get("enforcement", "optional"), "enforcement")
        is _Enforcement.REQUIRED,
        is_template=is_template,
    )


class _Enforcement(StrEnum):
    OPTIONAL = "optional"
    REQUIRED = "required"


def limit_from(value: object, metric: Metric) -> int:
    """Return a limit in the metric's unit: US dollars become nano-USD, the rest stays whole.

    Raises:
        InvalidAmount: Not above zero, not finite, too large, or broken where units are whole.
    """
    if value is None:
        raise InvalidAmount('limit is required, for example "1.00"', field="limit")
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise InvalidAmount('limit must be a decimal number as text, for example "1.00"', field="limit")
    try:
        limit = nusd_from_text(str(value)) if metric is Metric.COST else _whole_amount(value)
    except InvalidAmount as error:
        raise InvalidAmount(f"limit {error.detail}", field="limit") from None
    if limit <= 0:
        raise InvalidAmount("limit must be above zero", field="limit")
    return limit


def thresholds_from(value: object) -> tuple[Threshold, ...]:
    """Return thresholds, lowest first: each a share in (0, 10] or an object with an action.

    None gives the default, 0.8 and 1.0; an empty list gives none.

    Raises:
        InvalidInput: More than ten, two alike, or one that is wrong; `field` names its place.
    """
    if value is None:
        return DEFAULT_THRESHOLDS
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidInput("thresholds must be a list, for example [0.8, 1.0]", field="thresholds")
    if len(value) > THRESHOLDS_MAX:
        raise InvalidInput(f"thresholds may be at most {THRESHOLDS_MAX}", field="thresholds")
    found = [_threshold(item, f"thresholds[{place}]") for place, item in enumerate(value)]
    if len({(t.at_ppm, t.action) for t in found}) < len(found):
        raise InvalidInput("thresholds must differ in share or action", field="thresholds")
    return tuple(sorted(found, key=lambda t: (t.at_ppm, t.action)))


def scope_from_fields(value: object) -> Scope:
    """Return a scope; an empty one is the whole organisation.

    Raises:
        InvalidInput: A field is unknown, empty or of the wrong kind; `field` is its path.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput('scope must be an object, for example {"agent": "bot"}', field="scope")
    _only_known(value, _SCOPE_FIELDS, "scope.")
    names = {
        field: _name(value[field], f"scope.{field}")
        for field in ("project", "agent", "user", "model", "provider", "run")
        if field in value
    }
    api_key = _whole(value["api_key"], "scope.api_key", 1, AMOUNT_MAX) if "api_key" in value else 0
    return Scope(**names, api_key=api_key, tags=_tags(value.get("tags", {})))


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise InvalidInput('scope.tags must be an object, for example {"team": "ads"}', field="scope.tags")
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"scope.tags may be at most {TAGS_MAX}", field="scope.tags")
    return tuple(
        sorted((_name(tag, "scope.tags"), _name(text, f"scope.tags.{tag}")) for tag, text in value.items())
    )


def _threshold(value: object, field: str) -> Threshold:
    if not isinstance(value, Mapping):
        return Threshold(_share(value, field))
    _only_known(value, _THRESHOLD_FIELDS, f"{field}.")
    action = _choice(Action, value.get("action", Action.ALERT), f"{field}.action")
    at_ppm = _share(value.get("at"), f"{field}.at")
    latch = _flag(value.get("latch", False), f"{field}.latch")
    if latch and action not in {Action.PAUSE, Action.KILL}:
        raise InvalidInput(f"{field}.latch belongs to pause and kill only", field=f"{field}.latch")
    place = f"{field}.max_output_tokens"
    if action is Action.CLAMP:
        return Threshold(at_ppm, action, _whole(value.get("max_output_tokens"), place, 1, TOKENS_MAX))
    if "max_output_tokens" in value:
        raise InvalidInput(f"{place} belongs to the action clamp only", field=place)
    return Threshold(at_ppm, action, latch=latch)


def _share(value: object, field: str) -> int:
    """Return millionths of the limit. A JSON number is read by its shortest text, so 0.8 is 0.8."""
    problem = InvalidInput(f"{field} must be a number above 0 and at most {SHARE_MAX}", field=field)
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise problem
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        raise problem from None
    if not share.is_finite() or not 0 < share <= SHARE_MAX:
        raise problem
    ppm = share * PPM
    if ppm != int(ppm):
        raise InvalidInput(f"{field} may have at most six decimals", field=field)
    return int(ppm)


def _period(value: object) -> Period:
    alias = _PERIOD_ALIASES.get(value) if isinstance(value, str) else None
    return alias or _choice(Period, value, "period")


def _choice(kind: type[Choice], value: object, field: str) -> Choice:
    if isinstance(value, str):
        for choice in kind:
            if choice.value == value:
                return choice
    known = ", ".join(choice.value for choice in kind)
    raise InvalidInput(f"{field} must be one of {known}", field=field)


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{field} must be true or false", field=field)
    return value


def _whole(value: object, field: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{field} must be a whole number from {least} to {most}", field=field)
    return value


def _whole_amount(value: int | str | Decimal) -> int:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise InvalidAmount("must be a whole number") from None
    if not amount.is_finite() or abs(amount) > AMOUNT_MAX or amount != amount.to_integral_value():
        raise InvalidAmount("must be a whole number that fits 64 bits")
    return int(amount)


def _text(value: object, field: str, length_max: int = NAME_LENGTH_MAX) -> str:
    if not isinstance(value, str) or len(value) > length_max:
        raise InvalidInput(f"{field} must be text of at most {length_max} characters", field=field)
    return value


def _name(value: object, field: str) -> str:
    text = _text(value, field, SCOPE_NAME_LENGTH_MAX)
    if not text:
        raise InvalidInput(f"{field} must not be empty; leave it out to mean any", field=field)
    return text


def _only_known(fields: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
    for field in fields:
        if field not in known:
            raise InvalidInput(f"{prefix}{field} is not a field of a budget", field=f"{prefix}{field}")
