"""The outermost layer of the app: paths, request ids, metrics, and the hot routes' shortcut.

The hot routes are plain ASGI callables, reached by one dictionary look-up before the
framework: its routing and dependency machinery costs more than recording an event. They
are in the OpenAPI document all the same (`wiring` registers their schema).

Double slashes are collapsed and nothing is ever redirected: a published client turns a
redirected POST into a GET.
"""

import re
import time
from collections.abc import Mapping

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bursar.core.errors import AppError
from bursar.core.ids import new_id
from bursar.web.bodies import Disconnected, bound_for_strangers
from bursar.web.metrics import HttpMetrics
from bursar.web.problems import PROBLEM_TYPE, encode, problem, problem_of, retry_after_s, status_of

_log = structlog.get_logger()
_SLASHES = re.compile(r"/{2,}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """ASGI middleware around the whole app.

    Args:
        app: The framework's.
        hot: Plain ASGI callables by method and path; a path `/v1/holds/*` takes everything below.
        metrics: Counts each request.
    """

    def __init__(self, app: ASGIApp, hot: Mapping[tuple[str, str], ASGIApp], metrics: HttpMetrics) -> None:
        self._app = app
        self._hot = hot
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes (lifespan) go straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        # Escaped slashes are part of a name: only those that stand in the path itself are collapsed.
        if "//" in path and b"//" in (scope.get("raw_path") or b"//"):
            path = scope["path"] = _SLASHES.sub("/", path)
            scope["raw_path"] = path.encode()
        request_id = _request_id(scope)
        status = 0
        begun = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        app = self._hot.get((scope["method"], path)) or self._hot.get((scope["method"], _family(path)))
        if app is None:
            app, receive = self._app, bound_for_strangers(scope, receive)
        try:
            await app(scope, receive, send_with_id)
        except Disconnected:
            status = 499
        except AppError as error:
            headers = ((b"retry-after", str(wait_s).encode()),) if (wait_s := retry_after_s(error)) else ()
            await respond(send_with_id, status_of(error), problem_of(error), headers=headers)
        except Exception:  # noqa: BLE001 - the last place that can still answer; logged in full
            _log.exception("request_failed", request_id=request_id.decode(), path=path)
            detail = "an unexpected error; the server's log has it under this request id"
            if not status:
                await respond(send_with_id, 500, problem(500, "internal_error", detail))
        finally:
            self._metrics.observe(scope["method"], status, time.perf_counter() - begun)


async def respond(
    send: Send, status: int, body: object, *, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send one JSON answer; a problem document from status 400 on."""
    content = encode(body)
    kind = b"application/json" if status < 400 else PROBLEM_TYPE  # noqa: PLR2004 - HTTP's own line
    length = str(len(content)).encode()
    start = [(b"content-type", kind), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": content})


def _family(path: str) -> str:
    """Return `/v1/holds/*` for `/v1/holds/hold_…/settle`."""
    second = path.find("/", path.find("/", 1) + 1)
    return f"{path[: second + 1]}*" if second > 0 else path


def _request_id(scope: Scope) -> bytes:
    """Return the caller's `X-Request-Id` where it is harmless text, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return new_id().hex().encode()
