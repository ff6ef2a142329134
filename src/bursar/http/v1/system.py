"""What the server says of itself: liveness, readiness, component status, metrics."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import JSONResponse, Response

from bursar.core.errors import Unauthenticated

StatusProbe = Callable[[], Awaitable[dict[str, object]]]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "testclient"})


def system_router(probe: StatusProbe, registry: CollectorRegistry, metrics_token: str) -> APIRouter:
    """Return the routes; `probe` asks each component now and never claims one that is silent."""
    router = APIRouter(tags=["system"])

    @router.get("/healthz", operation_id="health")
    async def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @router.get("/readyz", operation_id="ready")
    async def readyz() -> JSONResponse:
        """Say whether requests should be sent here now; 503 when not, as while the server is about to end."""
        status = await probe()
        is_ready = status["database"] == "ok" and not status["draining"]
        return JSONResponse({"ready": is_ready, **status}, status_code=200 if is_ready else 503)

    @router.get("/v1/status", operation_id="status")
    async def status() -> dict[str, object]:
        """Report each component as it answers at this moment."""
        return await probe()

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Give Prometheus metrics: open on loopback, else with the scrape token."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        is_local = request.client is not None and request.client.host in _LOOPBACK
        is_scraper = bool(metrics_token) and hmac.compare_digest(token.encode(), metrics_token.encode())
        if not (is_local or is_scraper):
            raise Unauthenticated("Unauthorized: /metrics needs the scrape token from elsewhere")
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
