"""The leases' part of the OpenAPI document, kept by hand beside their decoder (`lease_body`)."""

from collections.abc import Mapping

from bursar.capture import checks
from bursar.http.v1 import lease_body

_TEXT = {"type": "string", "minLength": 1, "maxLength": 256}
_OPTIONAL_TEXT = {"type": ["string", "null"], "maxLength": 256}
_KEY = {"type": "string", "minLength": 1, "maxLength": 512}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 10**12}
_USD = {"type": ["number", "string", "null"], "description": "US dollars; text keeps every digit."}
_INSTANCE = {
    "type": "string",
    "minLength": lease_body.INSTANCE_LENGTH_MIN,
    "maxLength": 256,
    "description": "Fresh in each process: the one that may spend the lease.",
}
_WANTS = {
    "type": "object",
    "description": "The worst case of one call: `usage` or `amount_usd`, as for a hold.",
    "properties": {
        "usage": {
            "type": ["object", "null"],
            "properties": {
                "input_tokens": _COUNT,
                "max_output_tokens": {"type": ["integer", "null"], "minimum": 1, "maximum": 10**12},
            },
        },
        "amount_usd": _USD,
        "ceiling_usd": _USD,
        "service_tier": {"enum": [*checks.SERVICE_TIERS, None]},
    },
    "additionalProperties": False,
}
_RATES = {
    "rate_usd_per_s": {**_USD, "description": "What the client spends a second."},
    "calls_per_s": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": lease_body.CALLS_PER_S_MAX,
        "description": "The same in calls.",
    },
}
_ACQUIRE = {
    "type": "object",
    "required": ["idempotency_key", "instance", "model", "wants"],
    "properties": {
        "idempotency_key": _KEY,
        "instance": _INSTANCE,
        "model": _TEXT,
        "agent": {**_OPTIONAL_TEXT, "description": "Required unless the key is bound to one."},
        **dict.fromkeys(("provider", "project", "user", "run"), _OPTIONAL_TEXT),
        "tags": {"type": ["object", "null"], "maxProperties": 16, "additionalProperties": _TEXT},
        "wants": _WANTS,
        **_RATES,
        "ttl_s": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": lease_body.TTL_S_MAX,
            "default": lease_body.TTL_S,
        },
        "deadline_s": {
            "type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 86_400, "default": 600
        },
        "grace_s": {"type": ["number", "null"], "minimum": 0, "maximum": 86_400, "default": 300},
    },
    "additionalProperties": False,
}  # fmt: skip
_ENTRY = {
    "type": "object",
    "required": ["sequence", "idempotency_key"],
    "properties": {
        "sequence": {"type": "integer", "minimum": 0, "description": "Its place in the journal."},
        "idempotency_key": _KEY,
        "cost_usd": _USD,
        "usage": {
            "type": ["object", "null"],
            "properties": dict.fromkeys(checks.COUNT_FIELDS, _COUNT),
            "additionalProperties": False,
        },
        "duration_ms": {"type": ["integer", "null"], "minimum": 0},
        "timestamp": {"type": ["string", "null"], "format": "date-time"},
        "model": _OPTIONAL_TEXT,
        "status": {"enum": ["ok", "error", None]},
    },
    "additionalProperties": False,
}
_REPORT = {
    "type": "object",
    "required": ["instance", "report"],
    "properties": {
        "instance": _INSTANCE,
        "report": {"type": "integer", "minimum": 1, "description": "Counts the lease's reports from 1."},
        "entries": {"type": ["array", "null"], "maxItems": lease_body.ENTRIES_MAX, "items": _ENTRY},
        "give_back_usd": _USD,
        "give_back": {
            "type": ["object", "null"],
            "description": "By metric, in its unit.",
            "additionalProperties": {"type": ["string", "integer", "number", "null"]},
        },
        "needs": {
            "type": ["object", "null"],
            "required": ["wants"],
            "properties": {"wants": _WANTS, **_RATES},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
_LEASE_ID = {
    "name": "lease_id",
    "in": "path",
    "required": True,
    "description": "`lse_…` or a UUID.",
    "schema": {"type": "string"},
}


def _post(
    operation: str,
    summary: str,
    schema: Mapping[str, object],
    answers: Mapping[str, str],
    *,
    has_id: bool = True,
) -> dict[str, object]:
    body = {"type": "object"}
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "tags": ["leases"],
            "parameters": [_LEASE_ID] if has_id else [],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                status: {"description": text, "content": {"application/json": {"schema": body}}}
                for status, text in answers.items()
            },
        }
    }


LEASE_PATHS: Mapping[str, Mapping[str, object]] = {
    "/v1/leases": _post(
        "leases_create",
        "Get a slice of every budget that a call meets, to spend without asking before each call",
        _ACQUIRE,
        {"200": "The same key asked before: its lease as it is now.", "201": "A lease."},
        has_id=False,
    ),
    "/v1/leases/{lease_id}/report": _post(
        "leases_report",
        "Report what was spent; renew the lease, hear of recalls and stops",
        _REPORT,
        {"200": "Recorded, durably; a report that comes again changes nothing."},
    ),
    "/v1/leases/{lease_id}/return": _post(
        "leases_return",
        "Report what was spent, and give the rest back",
        _REPORT,
        {"200": "Recorded and ended."},
    ),
}
