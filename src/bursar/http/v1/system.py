"""What the server says of itself: liveness, readiness, component status, metrics, the front page."""

from collections.abc import Callable
from html import escape

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import HTMLResponse, JSONResponse, Response

import bursar
from bursar.core.errors import Unauthenticated

StatusProbe = Callable[[], dict[str, object]]
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
        """Say whether requests can be served now; 503 when they cannot."""
        status = probe()
        is_ready = status["database"] == "ok"
        return JSONResponse({"ready": is_ready, **status}, status_code=200 if is_ready else 503)

    @router.get("/v1/status", operation_id="status")
    async def status() -> dict[str, object]:
        """Report each component as it answers at this moment."""
        return probe()

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Give Prometheus metrics: open on loopback, else with the scrape token."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        is_local = request.client is not None and request.client.host in _LOOPBACK
        if not is_local and not (metrics_token and token == metrics_token):
            raise Unauthenticated("Unauthorized: /metrics needs the scrape token from elsewhere")
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", include_in_schema=False)
    async def front(request: Request) -> HTMLResponse:
        """Show what works and what comes."""
        return HTMLResponse(_FRONT.format(base=escape(str(request.base_url)), version=bursar.__version__))

    return router


_FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bursar</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 4rem auto; padding: 0 1.5rem; }}
  h1 {{ margin-bottom: 0; letter-spacing: -.02em; }}
  h2 {{ font-size: 1rem; margin: 2.2rem 0 .4rem; }}
  .lead {{ opacity: .75; margin-top: .2rem; }}
  pre {{ background: color-mix(in srgb, currentColor 8%, transparent); padding: 1rem; border-radius: .5rem;
    overflow-x: auto; font-size: .85rem; line-height: 1.5; }}
  li {{ margin: .15rem 0; }}
  footer {{ margin-top: 3rem; opacity: .6; font-size: .85rem; }}
</style>
<h1>Bursar</h1>
<p class="lead">The treasurer of a fleet of AI agents. The ledger is running.</p>
<h2>Record a call</h2>
<pre>curl {base}v1/ingest -H "Authorization: Bearer $BURSAR_KEY" -H 'Content-Type: application/json' -d '
{{"events": [{{"agent_name": "my-agent", "provider": "openai", "model": "gpt-4o",
  "input_tokens": 1500, "output_tokens": 800, "cost": 0,
  "timestamp": "'$(date -u +%FT%TZ)'"}}]}}'</pre>
<h2>See what it cost</h2>
<pre>bursar report --by model</pre>
<h2>Look around</h2>
<ul>
  <li><a href="/docs">Every route</a>, <a href="/openapi.json">as OpenAPI</a></li>
  <li><a href="/v1/models">Models and their prices</a></li>
  <li><a href="/v1/status">Status</a>, <a href="/metrics">metrics</a></li>
</ul>
<h2>What comes here</h2>
<p>This page becomes the dashboard: spend over time, budgets that hold, agents to pause and kill, alerts.
Until then the command line and the API show every figure.</p>
<footer>Bursar {version}</footer>
</html>
"""
