"""The hot routes' part of the OpenAPI document, kept by hand beside their decoders.

`tests/http/test_openapi.py` holds it against what the decoders accept.
"""

from collections.abc import Mapping

from bursar.capture import checks

_TEXT = {"type": "string", "minLength": 1, "maxLength": 256}
_OPTIONAL_TEXT = {"type": ["string", "null"], "maxLength": 256}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 10**12}

_INGEST_EVENT = {
    "type": "object",
    "required": ["agent_name", "provider", "model", "input_tokens", "output_tokens", "cost", "timestamp"],
    "properties": {
        "agent_name": _TEXT,
        "provider": _TEXT,
        "model": _TEXT,
        "input_tokens": _COUNT,
        "output_tokens": _COUNT,
        "cost": {"type": "number", "minimum": 0, "description": "US dollars, rounded to nine decimals."},
        "timestamp": {"type": "string", "format": "date-time", "description": "With a time zone."},
        "duration_ms": {"type": "integer", "minimum": 0, "default": 0},
        "idempotency_key": _OPTIONAL_TEXT,
        "run_id": _OPTIONAL_TEXT,
        "parent_run_id": _OPTIONAL_TEXT,
        "session_id": _OPTIONAL_TEXT,
        "status": {"type": ["string", "null"], "description": "`error` for a failed call."},
        "prompt": {"type": ["string", "null"], "description": "Kept to 2,048 characters."},
        "partial": {"type": ["boolean", "null"], "description": "A stream that was not read to its end."},
        "project": _OPTIONAL_TEXT,
        "feature": _OPTIONAL_TEXT,
        "user": _OPTIONAL_TEXT,
        "cache_read_tokens": _COUNT,
        "cache_write_5m_tokens": _COUNT,
        "cache_write_1h_tokens": _COUNT,
        "reasoning_tokens": _COUNT,
        "revision": {
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "Replaces a lower one of its key.",
        },
    },
    "additionalProperties": True,
}
_TRACK = {
    "type": "object",
    "required": ["provider", "model", "inputTokens", "outputTokens"],
    "properties": {
        "provider": _TEXT,
        "model": _TEXT,
        "inputTokens": _COUNT,
        "outputTokens": _COUNT,
        "latencyMs": {"type": "number", "minimum": 0},
        "projectId": _OPTIONAL_TEXT,
        "feature": _OPTIONAL_TEXT,
        "userId": _OPTIONAL_TEXT,
        "agent": _OPTIONAL_TEXT,
        "success": {"type": "boolean", "default": True},
        "errorMessage": {"type": "string"},
        "cost": {"type": ["number", "null"], "minimum": 0},
        "idempotencyKey": _OPTIONAL_TEXT,
        "metadata": {"type": "object", "additionalProperties": True},
    },
    "additionalProperties": True,
}


_NATIVE_FIELDS: dict[str, object] = {
    "agent": _TEXT,
    "provider": _OPTIONAL_TEXT,
    "model": _TEXT,
    "occurred_at": {"type": ["string", "null"], "format": "date-time", "description": "With a zone."},
    "idempotency_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 512},
    "key_hex": {"type": ["string", "null"], "pattern": "^[0-9a-fA-F]{32}$"},
    "revision": {"type": ["integer", "null"], "minimum": 0},
    **dict.fromkeys(("project", "feature", "user", "run_id", "parent_run_id", "session_id"), _OPTIONAL_TEXT),
    **dict.fromkeys(checks.COUNT_FIELDS, _COUNT),
    "cost_usd": {"type": ["number", "string", "null"], "description": "What the caller says it cost."},
    "duration_ms": {"type": ["integer", "null"], "minimum": 0},
    "status": {"enum": ["ok", "error", None]},
    "error": {"type": ["string", "null"]},
    "billing": {"enum": ["metered", "subscription", None]},
    "service_tier": {"enum": [*checks.SERVICE_TIERS, None]},
    "attributes": {"type": ["object", "null"], "additionalProperties": True},
    "prompt": {"type": ["string", "null"], "description": "Kept to 2,048 characters."},
}
_NATIVE_EVENT = {
    "type": "object",
    "required": ["agent", "model"],
    "properties": _NATIVE_FIELDS,
    "additionalProperties": True,
}

_USD = {"type": ["number", "string", "null"], "description": "US dollars; text keeps every digit."}
_OUTPUT = {"type": ["integer", "null"], "minimum": 1, "maximum": 10**12}
_SECONDS = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 86_400}
_SAID_AGAIN = {**_OPTIONAL_TEXT, "description": "Not kept with the hold; say it again when settling."}
_HOLD = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": _TEXT,
        "agent": {**_OPTIONAL_TEXT, "description": "Required unless the key is bound to one."},
        **dict.fromkeys(("provider", "project", "user", "run"), _OPTIONAL_TEXT),
        **dict.fromkeys(("parent_run", "session"), _SAID_AGAIN),
        "tags": {"type": ["object", "null"], "maxProperties": 16, "additionalProperties": _TEXT},
        "idempotency_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 512},
        "amount_usd": {**_USD, "description": "The worst case, above zero; or send `usage`."},
        "usage": {
            "type": ["object", "null"],
            "properties": {
                **dict.fromkeys(
                    (
                        "input_tokens", "cache_read_tokens", "cache_write_5m_tokens",
                        "cache_write_1h_tokens", "input_audio_tokens", "input_image_tokens", "web_searches",
                    ),
                    _COUNT,
                ),
                "max_output_tokens": _OUTPUT,
            },
            "additionalProperties": False,
        },
        "ceiling_usd": {**_USD, "description": "What the call costs at most where no price is known."},
        "service_tier": {"enum": [*checks.SERVICE_TIERS, None]},
        "deadline_s": {**_SECONDS, "default": 600},
        "grace_s": {"type": ["number", "null"], "minimum": 0, "maximum": 86_400, "default": 300},
        "allow_smaller": {"type": ["boolean", "null"], "default": False},
        "min_output_tokens": _OUTPUT,
        "depth": {"type": ["integer", "null"], "minimum": 0, "maximum": 10**6},
        "fingerprint": {"type": ["string", "null"], "minLength": 1, "maxLength": 512},
    },
    "additionalProperties": False,
}  # fmt: skip
_SETTLEMENT = {
    "type": "object",
    "properties": {
        **{name: schema for name, schema in _NATIVE_FIELDS.items() if name not in {"key_hex", "hold"}},
        **dict.fromkeys(("agent", "model"), _OPTIONAL_TEXT),
        "usage": {
            "type": ["object", "null"],
            "properties": dict.fromkeys(checks.COUNT_FIELDS, _COUNT),
            "description": "The counts, where they do not stand beside it.",
        },
    },
    "additionalProperties": True,
}
_HOLD_ID = {
    "name": "hold_id",
    "in": "path",
    "required": True,
    "description": "`hold_…` or a UUID.",
    "schema": {"type": "string"},
}


def _body(schema: Mapping[str, object]) -> dict[str, object]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(description: str) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def _of_hold(operation: str, summary: str, schema: Mapping[str, object], answer: str) -> dict[str, object]:
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "tags": ["holds"],
            "parameters": [_HOLD_ID],
            "requestBody": _body(schema),
            "responses": {"200": _answer(answer)},
        }
    }


HOT_PATHS: Mapping[str, Mapping[str, object]] = {
    "/v1/ingest": {
        "post": {
            "operationId": "events_ingest",
            "summary": "Record a batch of calls; what is good in it is recorded first",
            "tags": ["capture"],
            "requestBody": _body(
                {
                    "type": "object",
                    "required": ["events"],
                    "properties": {"events": {"type": "array", "minItems": 1, "items": _INGEST_EVENT}},
                }
            ),
            "responses": {"202": _answer("Recorded, durably; duplicates count as accepted.")},
        }
    },
    "/v1/track": {
        "post": {
            "operationId": "events_track",
            "summary": "Record one call in AI Cost Guard's form",
            "tags": ["capture"],
            "requestBody": _body(_TRACK),
            "responses": {"201": _answer("Recorded, durably.")},
        }
    },
    "/v1/events": {
        "post": {
            "operationId": "events_create",
            "summary": "Record calls in Bursar's own form; each bad one is named, the others are recorded",
            "tags": ["capture"],
            "parameters": [
                {
                    "name": "dry_run",
                    "in": "query",
                    "description": "Decode and price, record nothing.",
                    "schema": {"type": "boolean", "default": False},
                }
            ],
            "requestBody": _body(
                {
                    "oneOf": [
                        _NATIVE_EVENT,
                        {"type": "array", "items": _NATIVE_EVENT},
                        {
                            "type": "object",
                            "required": ["events"],
                            "properties": {"events": {"type": "array", "items": _NATIVE_EVENT}},
                        },
                    ]
                }
            ),
            "responses": {
                "200": _answer("Nothing new in it: duplicates, or nothing good."),
                "201": _answer("Recorded, durably."),
            },
        }
    },
    "/v1/holds": {
        "post": {
            "operationId": "holds_create",
            "summary": "Ask before a call: set its worst case aside in every budget that it meets",
            "tags": ["holds"],
            "requestBody": _body(_HOLD),
            "responses": {
                "200": _answer("The same key asked before: its hold, in whatever state it is."),
                "201": _answer("A hold; pass its `max_output_tokens` on to the provider."),
            },
        }
    },
    "/v1/holds/{hold_id}/settle": _of_hold(
        "holds_settle",
        "Put what a call really used in place of what was held; the event is recorded",
        _SETTLEMENT,
        "Recorded, durably; `outcome` says what it did.",
    ),
    "/v1/holds/{hold_id}/void": _of_hold(
        "holds_void",
        "Give a hold's room back: the call is known not to have been billed",
        {"type": "object", "properties": {"reason": {"type": ["string", "null"], "maxLength": 1024}}},
        "Given back; a repeat changes nothing.",
    ),
    "/v1/holds/{hold_id}/extend": _of_hold(
        "holds_extend",
        "Move an open hold's deadline",
        {"type": "object", "required": ["deadline_s"], "properties": {"deadline_s": _SECONDS}},
        "Moved; at most a day after it began.",
    ),
}
