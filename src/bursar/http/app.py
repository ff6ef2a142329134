"""The framework app: routers, error bodies, the OpenAPI document.

Routers come ready-made; this module knows none of their services. The hot routes stand in
the document by an explicit schema (`v1/hot_schema.py`), since the framework never sees
their requests.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import bursar
from bursar.core.errors import AppError
from bursar.http.pages import pages_router
from bursar.web.problems import PROBLEM_TYPE, encode, problem, problem_of, retry_after_s, status_of

HotPaths = Mapping[str, Mapping[str, object]]
"""OpenAPI operations by path and method."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_DESCRIPTION = (
    "The treasurer of a fleet of AI agents: meters every model call, prices it, keeps an exact ledger."
)
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"description": "A sentence; on /v1/ingest a list of item errors."},
        "code": {"type": "string"},
        "message": {"type": "string"},
        "error": {"type": "string"},
        "field": {"type": "string"},
    },
}


def create_app(routers: Sequence[APIRouter], *, lifespan: Lifespan | None, hot_paths: HotPaths) -> FastAPI:
    """Return the app with `routers` mounted and every error answered as a problem document."""
    app = FastAPI(
        title="Bursar",
        version=bursar.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )

    def document() -> dict[str, object]:
        # Asked for late: `_describe` gives the app its complete document below.
        return app.openapi()

    for router in (*routers, pages_router(document)):
        app.include_router(router)
    app.add_exception_handler(Exception, _on_unexpected_error)
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    _describe(app, hot_paths)
    return app


def _describe(app: FastAPI, hot_paths: HotPaths) -> None:
    """Complete the generated document: hot routes, and the one error body everywhere."""
    generate = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = generate()
            for path, operations in hot_paths.items():
                document["paths"].setdefault(path, {}).update(operations)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = _PROBLEM_SCHEMA
            for operations in document["paths"].values():
                for operation in operations.values():
                    _add_errors(operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # the framework's documented way


def _add_errors(operation: dict[str, object]) -> None:
    """Document our problem body for every error of one operation."""
    answer = {
        "description": "Refused; the body says why and what to do.",
        "content": {PROBLEM_TYPE.decode(): {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    responses = operation.setdefault("responses", {})
    if isinstance(responses, dict):
        responses.pop("422", None)
        responses["4XX"] = answer
        responses["5XX"] = answer


def _response(status: int, body: Mapping[str, object]) -> Response:
    return Response(encode(body), status_code=status, media_type=PROBLEM_TYPE.decode())


async def _on_app_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, AppError):
        raise error
    response = _response(status_of(error), problem_of(error))
    wait_s = retry_after_s(error)
    if wait_s:
        response.headers["retry-after"] = str(wait_s)
    return response


async def _on_unexpected_error(_request: Request, _error: Exception) -> Response:
    """Answer a defect of ours; the framework raises it again, and the edge logs it."""
    return _response(500, problem(500, "internal_error", "an unexpected error; the server's log has it"))


async def _on_http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "http_error")
    response = _response(error.status_code, problem(error.status_code, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    """Name the first field at fault in a sentence, and list all of them beside it."""
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        {"loc": [str(part) for part in fault["loc"]], "msg": str(fault["msg"]), "type": str(fault["type"])}
        for fault in error.errors()
    ]
    field = ".".join(faults[0]["loc"][1:]) if faults else ""
    detail = f"{field or 'body'}: {faults[0]['msg']}" if faults else "the request is not valid"
    return _response(422, problem(422, "invalid_input", detail, {"field": field, "errors": faults}))
