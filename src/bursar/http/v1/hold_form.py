"""The form of POST /v1/holds, read in two ways: at once, or field by field to name what is wrong.

    body  →  quick_body, else careful_body  →  HoldBody  →  `hold_body`

The small readers of single values serve the neighbouring routes too. Money is read from the
number's own text, so no binary float stands between. Not here: what a body asks for (`hold_body`).
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, cast

import msgspec
from msgspec import Meta, Raw

from bursar.budgets.guards import DEPTH_MAX
from bursar.capture import checks
from bursar.capture.native import KEY_LENGTH_MAX
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.money import nusd_from_text
from bursar.core.usage import TOKENS_MAX

DEADLINE_S = 600
DEADLINE_S_MAX = 86_400
GRACE_S = 300
GRACE_S_MAX = 86_400
TAGS_MAX = 16

_Name = Annotated[str, Meta(min_length=1, max_length=checks.NAME_LENGTH_MAX)]
_Optional = Annotated[str, Meta(max_length=checks.NAME_LENGTH_MAX)] | None
_Key = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)] | None
_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
_Output = Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None
NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)
ABSENT = Raw(b"")


class UsageBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a call will use: its input as counted, and the most output it may bring."""

    input_tokens: _Count = 0
    max_output_tokens: _Output = None
    cache_read_tokens: _Count = 0
    cache_write_5m_tokens: _Count = 0
    cache_write_1h_tokens: _Count = 0
    input_audio_tokens: _Count = 0
    input_image_tokens: _Count = 0
    web_searches: _Count = 0


class HoldBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The whole body of POST /v1/holds; a null is as good as a field left out."""

    model: _Name
    agent: _Optional = None
    provider: _Optional = None
    project: _Optional = None
    user: _Optional = None
    run: _Optional = None
    parent_run: _Optional = None
    session: _Optional = None
    tags: Annotated[dict[_Name, _Name], Meta(max_length=TAGS_MAX)] | None = None
    idempotency_key: _Key = None
    amount_usd: Raw = ABSENT
    usage: UsageBody | None = None
    ceiling_usd: Raw = ABSENT
    service_tier: str | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=DEADLINE_S_MAX)] | None = None
    grace_s: Annotated[float, Meta(ge=0, le=GRACE_S_MAX)] | None = None
    allow_smaller: bool | None = None
    min_output_tokens: _Output = None
    depth: Annotated[int, Meta(ge=0, le=DEPTH_MAX)] | None = None
    fingerprint: _Key = None


quick_body = msgspec.json.Decoder(HoldBody).decode
"""Reads a body of the documented form; raises one of `NOT_DECODED` for any other."""


_TEXTS = ("agent", "provider", "project", "user", "run", "parent_run", "session")
_FIELDS = frozenset(HoldBody.__struct_fields__)
_USAGE_FIELDS = frozenset(UsageBody.__struct_fields__)


def careful_body(raw: bytes) -> HoldBody:
    """Read a body field by field.

    Raises:
        InvalidInput: The first field at fault.
    """
    fields = object_of(raw)
    only_known(fields, _FIELDS)
    sent = {name: value for name, value in fields.items() if value is not None}
    if "model" not in sent:
        raise InvalidInput("model is required", field="model")
    body = HoldBody(model=checks.name(sent["model"], "model"))
    for name in _TEXTS:
        setattr(body, name, checks.optional_name(sent.get(name), name) or None)
    body.tags = _tags(sent.get("tags"))
    for name in ("idempotency_key", "fingerprint"):
        setattr(body, name, _key(sent.get(name), name))
    for name in ("amount_usd", "ceiling_usd"):
        setattr(body, name, amount_text(sent.get(name), name))
    body.usage = _usage(sent.get("usage"))
    body.service_tier = _plain_text(sent.get("service_tier"), "service_tier")
    body.deadline_s = seconds(sent.get("deadline_s"), "deadline_s", DEADLINE_S_MAX)
    body.grace_s = seconds(sent.get("grace_s"), "grace_s", GRACE_S_MAX, may_be_zero=True)
    body.allow_smaller = _truth(sent.get("allow_smaller"), "allow_smaller")
    body.min_output_tokens = _output(sent.get("min_output_tokens"), "min_output_tokens")
    body.depth = checks.count(sent.get("depth", 0), "depth", DEPTH_MAX)
    return body


def object_of(raw: bytes) -> dict[str, object]:
    """Return a body that must be a JSON object.

    Raises:
        InvalidInput: It is none.
    """
    value = checks.decode_json(raw)
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value


def only_known(fields: Mapping[str, object], known: frozenset[str], prefix: str = "") -> None:
    """Refuse a field that the route does not know.

    Raises:
        InvalidInput: The first one.
    """
    for name in fields:
        if name not in known:
            sentence = f"{prefix}{name} is not a field of this request; known are {', '.join(sorted(known))}"
            raise InvalidInput(sentence, field=f"{prefix}{name}")


def _usage(value: object) -> UsageBody | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput('usage must be an object, for example {"input_tokens": 1200}', field="usage")
    only_known(value, _USAGE_FIELDS, "usage.")
    counts = {
        name: checks.count(given, f"usage.{name}")
        for name, given in value.items()
        if given is not None and name != "max_output_tokens"
    }
    return UsageBody(
        max_output_tokens=_output(value.get("max_output_tokens"), "usage.max_output_tokens"), **counts
    )


def _output(value: object, field: str) -> int | None:
    if value is None:
        return None
    if checks.count(value, field) < 1:
        raise InvalidInput(f"{field} must be above zero", field=field)
    return cast("int", value)


def _tags(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput('tags must be an object, for example {"team": "ads"}', field="tags")
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"tags may be at most {TAGS_MAX}", field="tags")
    return {checks.name(name, "tags"): checks.name(text, f"tags.{name}") for name, text in value.items()}


def _key(value: object, field: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_LENGTH_MAX:
        raise _not_a_key(field)
    return value


def _plain_text(value: object, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{field} must be text", field=field)
    return value


def _truth(value: object, field: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{field} must be true or false", field=field)
    return value


def seconds(value: object, field: str, most: int, *, may_be_zero: bool = False) -> float | None:
    """Return a number of seconds, None for none.

    Raises:
        InvalidInput: Not a number, or out of bounds.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidInput(f"{field} must be a number of seconds", field=field)
    if not 0 <= value <= most or (not value and not may_be_zero):
        least = "from 0" if may_be_zero else "above 0"
        raise InvalidInput(f"{field} must be {least} and at most {most}", field=field)
    return float(value)


def amount_text(value: object, field: str) -> Raw:
    """Return an amount as the quick road has it: its JSON text.

    Raises:
        InvalidAmount: Neither a number nor text.
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidAmount(f"{field} must be a number of US dollars", field=field)
    return Raw(msgspec.json.encode(str(value)))


def key_text_of(said: str | None, header: str | None) -> str | None:
    """Return the idempotency key, from the body or the header; None where there is none.

    Raises:
        InvalidInput: The two differ, or the header is empty or too long.
    """
    if header is None:
        return said
    if said not in {None, header}:
        raise InvalidInput("idempotency_key differs from the header Idempotency-Key", field="idempotency_key")
    if not 1 <= len(header) <= KEY_LENGTH_MAX:
        raise _not_a_key("Idempotency-Key")
    return header


def nusd_of(raw: Raw, field: str, *, is_positive: bool = False) -> int | None:
    """Return an amount from its JSON text, a number or text; None for null or none.

    Raises:
        InvalidAmount: No money; `field` is named.
    """
    if raw is ABSENT:
        return None
    text = bytes(raw).decode("utf-8", "replace")
    if text == "null":
        return None
    if text[0] in "[{tf":
        raise InvalidAmount(f"{field} must be a number of US dollars", field=field)
    if text[0] == '"':
        text = text[1:-1]
    try:
        nusd = nusd_from_text(text)
    except InvalidAmount as error:
        raise InvalidAmount(f"{field} {error.detail}", field=field) from None
    if is_positive and not nusd:
        raise InvalidAmount(f"{field} must be above zero", field=field)
    return nusd


def _not_a_key(field: str) -> InvalidInput:
    return InvalidInput(f"{field} must be text of 1 to {KEY_LENGTH_MAX} characters", field=field)
