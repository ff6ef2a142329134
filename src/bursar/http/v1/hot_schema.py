"""The hot routes' part of the OpenAPI document, kept by hand beside their decoders.

`tests/http/test_openapi.py` holds it against what the decoders accept.
"""

from collections.abc import Mapping

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
        "project": _OPTIONAL_TEXT,
        "feature": _OPTIONAL_TEXT,
        "user": _OPTIONAL_TEXT,
        "cache_read_tokens": _COUNT,
        "cache_write_5m_tokens": _COUNT,
        "cache_write_1h_tokens": _COUNT,
        "reasoning_tokens": _COUNT,
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


def _body(schema: Mapping[str, object]) -> dict[str, object]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(description: str) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


HOT_PATHS: Mapping[str, object] = {
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
}
