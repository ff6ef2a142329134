"""What the budget, gate and incident routes are sent: JSON that becomes budgets, changes and decisions.

    bytes  →  checks.decode_json  →  fields  →  budgets.reading  →  Budget

An API key is named by its id outside and by its row number inside; it is translated here. Not
here: what the fields of a budget mean (`budgets.reading`), answers (`budget_answers`).
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final

import msgspec
from fastapi import Request

from bursar.budgets.budget import Budget
from bursar.budgets.reading import budget_from_fields
from bursar.capture import checks
from bursar.core.errors import InvalidInput
from bursar.core.ids import Org, id_from_text
from bursar.enforcement.administration import KEYED_BYTES
from bursar.http.v1.price_forms import body_bytes
from bursar.identity.ports import KeyStore

BODY_BYTES_MAX: Final = 2**16
"""A budget with ten thresholds and sixteen long tags has about 12 KiB."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_KEY_LENGTH_MAX: Final = 256
_ID_BYTES: Final = 16
_NAMES: Final = ("project", "agent", "user", "model", "provider", "run")
_CHANGES: Final = {
    "limit": "limit",
    "name": "name",
    "mode": "mode",
    "thresholds": "thresholds",
    "unpriced": "unpriced",
    "on_expiry": "on_expiry",
    "enforcement": "requires_hold",
    "timezone": "zone",
}
"""What a budget lets be changed: the field as it is sent, and as a `Budget` has it."""

Fields = dict[str, object]


async def fields_of(request: Request) -> Fields:
    """Return the JSON object in a request's body; an empty body is an empty object.

    Raises:
        InvalidInput: Not JSON, not UTF-8, or not an object.
        TooLarge: Above `BODY_BYTES_MAX`.
    """
    raw = await body_bytes(request, BODY_BYTES_MAX)
    decoded = checks.decode_json(raw) if raw.strip() else {}
    if not isinstance(decoded, dict):
        raise InvalidInput("the body must be a JSON object", field="body")
    return decoded


async def budget_fields(request: Request, org: Org, keys: KeyStore) -> Fields:
    """Return a new budget's fields, names checked and its API key as a row number.

    Raises:
        InvalidInput: A name that no call could have, or a key that the organisation has not.
    """
    fields = await fields_of(request)
    _check_name(fields)
    scope = fields.get("scope")
    if not isinstance(scope, Mapping):
        return fields
    for field in _NAMES:
        if isinstance(scope.get(field), str):
            checks.optional_name(scope[field], f"scope.{field}")
    if "api_key" not in scope:
        return fields
    return {**fields, "scope": {**scope, "api_key": await _key_number(scope["api_key"], org, keys)}}


def changes_of(fields: Fields) -> Callable[[Budget], Budget]:
    """Return what a PATCH does to a budget; it raises what `budget_from_fields` raises.

    Raises:
        InvalidInput: A field that may not be changed.
    """
    for field in fields:
        if field not in _CHANGES:
            changeable = ", ".join(_CHANGES)
            raise InvalidInput(
                f"{field} cannot be changed; make a new budget (what can be: {changeable})", field=field
            )
    _check_name(fields)

    def change(budget: Budget) -> Budget:
        # Read as a whole budget would be; only what was sent is taken over.
        whole = {"limit": "1", "metric": budget.metric.value, "period": budget.period.value, **fields}
        read = budget_from_fields(whole, budget_id=budget.id, created_at=budget.created_at)
        given = {_CHANGES[field]: getattr(read, _CHANGES[field]) for field in fields}
        return msgspec.structs.replace(budget, **given)

    return change


def keyed_id(request: Request, org: Org, fields: Fields) -> bytes | None:
    """Return the id that an `Idempotency-Key` gives the thing that `fields` describe, None without one.

    The key gives one half and the body the other, so a repeat finds the same thing, also after a
    restart, and another body under the same key is seen to be another.

    Raises:
        InvalidInput: The key is empty or too long.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not key or len(key) > _KEY_LENGTH_MAX:
        raise InvalidInput(
            f"{IDEMPOTENCY_KEY} must have 1 to {_KEY_LENGTH_MAX} characters", field=IDEMPOTENCY_KEY
        )
    body = msgspec.json.encode(fields, order="deterministic")
    named = f"{org} {key}".encode()
    return _half(named, KEYED_BYTES) + _half(body, _ID_BYTES - KEYED_BYTES)


def text_field(fields: Fields, field: str, *, length_max: int) -> str:
    """Return an optional text, empty where it is not given.

    Raises:
        InvalidInput: Not text, too long, or with control characters other than line breaks.
    """
    value = fields.get(field, "")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > length_max:
        raise InvalidInput(f"{field} must be text of at most {length_max} characters", field=field)
    if not all(character.isprintable() or character in "\n\t" for character in value):
        raise InvalidInput(f"{field} must not contain control characters", field=field)
    return value


def only(fields: Fields, *known: str) -> None:
    """Refuse a field that a route does not know.

    Raises:
        InvalidInput: There is one; the sentence lists those that are known.
    """
    for field in fields:
        if field not in known:
            raise InvalidInput(f"{field} is not known here; send {', '.join(known)}", field=field)


def _check_name(fields: Fields) -> None:
    if isinstance(fields.get("name"), str):
        checks.optional_name(fields["name"], "name")


def _half(text: bytes, size: int) -> bytes:
    return blake2b(text, digest_size=size, person=b"budget").digest()


async def _key_number(value: object, org: Org, keys: KeyStore) -> int:
    field = "scope.api_key"
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be the id of a key, for example key_0192…", field=field)
    key_id = id_from_text(value, field=field)
    for key in await keys.list(org):
        if key.id == key_id:
            return key.number
    raise InvalidInput(f"{field} is no key of this organisation; GET /v1/keys lists them", field=field)


_THRESHOLD = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 10},
        {
            "type": "object",
            "required": ["at"],
            "properties": {
                "at": {"type": "number", "exclusiveMinimum": 0, "maximum": 10},
                "action": {"type": "string", "enum": ["alert", "clamp", "refuse", "pause", "kill"]},
                "max_output_tokens": {"type": "integer", "minimum": 1},
                "latch": {
                    "type": "boolean",
                    "description": "The stop stays until a person ends it; for pause and kill.",
                },
            },
        },
    ]
}
_CHANGEABLE: Final[Mapping[str, object]] = {
    "limit": {"type": "string", "description": "In the budget's unit.", "examples": ["1.00"]},
    "name": {"type": "string", "maxLength": 200},
    "mode": {"type": "string", "enum": ["hard", "soft"], "default": "hard"},
    "thresholds": {
        "type": "array",
        "maxItems": 10,
        "items": _THRESHOLD,
        "description": "Shares of the limit and what happens there; 0.8 and 1.0 by default.",
    },
    "unpriced": {
        "type": "string",
        "enum": ["block", "allow"],
        "description": "What a hard money budget does once it holds calls without a known price.",
    },
    "on_expiry": {
        "type": "string",
        "enum": ["release", "suspense"],
        "description": "What becomes of a hold that nobody settles.",
    },
    "enforcement": {
        "type": "string",
        "enum": ["optional", "required"],
        "description": "`required`: spend without a hold raises an alert at once.",
    },
    "timezone": {"type": "string", "description": "IANA name; the organisation's by default."},
}


def documented_body(properties: Mapping[str, object], *required: str) -> dict[str, object]:
    """Return what the OpenAPI document says of a body that the framework does not read."""
    schema = {
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


CHANGES_DOCUMENTED: Final = documented_body(_CHANGEABLE)
_KEY_DOCUMENTED: Final = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body answers the same budget, for ever.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _KEY_LENGTH_MAX},
}
NEW_DOCUMENTED: Final = {"parameters": [_KEY_DOCUMENTED]} | documented_body(
    {
        "scope": {
            "type": "object",
            "description": "Whose calls count; empty is the whole organisation.",
            "properties": {
                **{field: {"type": "string", "minLength": 1} for field in _NAMES},
                "api_key": {"type": "string", "description": "A key's id."},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "metric": {"type": "string", "default": "cost"},
        "period": {"type": "string", "default": "daily"},
        "reset_hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "template": {"type": "boolean", "description": "Give each agent in its scope a budget like it."},
        **_CHANGEABLE,
    },
    "limit",
)
