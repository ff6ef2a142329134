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


_NATIVE_EVENT = {
    "type": "object",
    "required": ["agent", "model"],
    "properties": {
        "agent": _TEXT,
        "provider": _OPTIONAL_TEXT,
        "model": _TEXT,
        "occurred_at": {"type": ["string", "null"], "format": "date-time", "description": "With a zone."},
        "idempotency_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 512},
        "key_hex": {"type": ["string", "null"], "pattern": "^[0-9a-fA-F]{32}$"},
        "revision": {"type": ["integer", "null"], "minimum": 0},
        **dict.fromkeys(
            ("project", "feature", "user", "run_id", "parent_run_id", "session_id"), _OPTIONAL_TEXT
        ),
        **dict.fromkeys(checks.COUNT_FIELDS, _COUNT),
        "cost_usd": {"type": ["number", "string", "null"], "description": "What the caller says it cost."},
        "duration_ms": {"type": ["integer", "null"], "minimum": 0},
        "status": {"enum": ["ok", "error", None]},
        "error": {"type": ["string", "null"]},
        "billing": {"enum": ["metered", "subscription", None]},
        "service_tier": {"enum": [*checks.SERVICE_TIERS, None]},
        "attributes": {"type": ["object", "null"], "additionalProperties": True},
        "prompt": {"type": ["string", "null"], "description": "Kept to 2,048 characters."},
    },
    "additionalProperties": True,
}


def _body(schema: Mapping[str, object]) -> dict[str, object]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(description: str) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


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
}
