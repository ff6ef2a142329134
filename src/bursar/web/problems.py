"""Errors as RFC 9457 problem documents that the four products' clients also understand.

Every body carries a `detail` (FastAPI's convention, which AgentKavach's client reads) and
the same sentence as `message` and `error` (which AI Cost Guard's reads), a stable `code`,
and where one field is at fault, `field`.
"""

from collections.abc import Mapping

import msgspec

from bursar.core.errors import AppError, Kind, RateLimited, StorageFull, Unavailable

STATUS = {
    Kind.INVALID: 422,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.UNAUTHENTICATED: 401,
    Kind.DENIED: 403,
    Kind.OVER_BUDGET: 402,
    Kind.TOO_LARGE: 413,
    Kind.RATE_LIMITED: 429,
    Kind.UNAVAILABLE: 503,
}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}
PROBLEM_TYPE = b"application/problem+json"

RETRY_AFTER_S = 2
"""What a caller is asked to wait when we cannot work; a published client clamps to 1–10 anyway."""

encode = msgspec.json.Encoder().encode


def status_of(error: AppError) -> int:
    """Return the HTTP status of an error; a full disk is 507, anything else by its kind."""
    return 507 if isinstance(error, StorageFull) else STATUS[error.kind]


def retry_after_s(error: AppError) -> int | None:
    """Return when to come again with the same request; None where that would change nothing."""
    if isinstance(error, RateLimited):
        return error.retry_after_s
    return RETRY_AFTER_S if isinstance(error, Unavailable) else None


def problem(
    status: int, code: str, detail: object, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the body. `detail` is a sentence, or on /v1/ingest the list of item errors."""
    sentence = detail if isinstance(detail, str) else _TITLES[status]
    body: dict[str, object] = {
        "type": f"urn:bursar:error:{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "message": sentence,
        "error": sentence,
    }
    if extra:
        body.update(extra)
    return body


def problem_of(error: AppError) -> dict[str, object]:
    """Return the body of one of our errors."""
    extra: dict[str, object] = dict(error.more)
    if error.field is not None:
        extra["field"] = error.field
    wait_s = retry_after_s(error)
    if wait_s is not None:
        extra["retry_after_s"] = wait_s
    return problem(status_of(error), error.code, error.detail, extra)
