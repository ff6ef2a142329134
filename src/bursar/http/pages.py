"""The two pages a browser sees today: the front page, and the list of every route.

Server-rendered, self-contained, nothing loaded from elsewhere. The dashboard takes the
front page's place when it comes.
"""

from collections.abc import Callable, Iterator, Mapping
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

import bursar

_STYLE = """
  :root { color-scheme: light dark; }
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 4rem auto; padding: 0 1.5rem; }
  h1 { margin-bottom: 0; letter-spacing: -.02em; }
  h2 { font-size: 1rem; margin: 2.2rem 0 .4rem; }
  a { color: inherit; }
  code, pre { font-family: ui-monospace, monospace; }
  pre, summary:hover { background: color-mix(in srgb, currentColor 8%, transparent); border-radius: .5rem; }
  pre { padding: 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.5; }
  li { margin: .15rem 0; }
  summary { cursor: pointer; padding: .3rem .5rem; display: grid; grid-template-columns: 4.5rem 1fr; }
  summary .said { grid-column: 2; opacity: .7; font-size: .9rem; }
  details div { padding: 0 .5rem .8rem 5rem; font-size: .9rem; }
  .method { font-weight: 600; }
  .lead, footer { opacity: .7; margin-top: .2rem; }
  footer { margin-top: 3rem; font-size: .85rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}
<footer>Bursar {version}</footer>
</html>
"""

_FRONT = """<h1>Bursar</h1>
<p class="lead">The treasurer of a fleet of AI agents. The ledger is running.</p>
<h2>Record a call</h2>
<pre>curl {base}v1/ingest \\
  -H "Authorization: Bearer $BURSAR_KEY" -H 'Content-Type: application/json' -d '
{{"events": [{{"agent_name": "my-agent", "provider": "openai", "model": "gpt-4o",
  "input_tokens": 1500, "output_tokens": 800, "cost": 0,
  "timestamp": "'$(date -u +%FT%TZ)'"}}]}}'</pre>
<h2>See what it cost</h2>
<pre>bursar report --by model</pre>
<h2>Set a limit, stop an agent</h2>
<pre>bursar budgets create 1 --agent my-agent   # 1 US dollar a day, refused beyond
bursar budgets list                        # spent, held, left, and when it resets
bursar agents kill my-agent                # no call is granted from now on
bursar agents resume my-agent</pre>
<p>A call that asks first never passes a hard limit. Whoever has a key asks before the call, and says
afterwards what it has cost, or that it never was (<code>/void</code>):</p>
<pre>curl {base}v1/holds \\
  -H "Authorization: Bearer $BURSAR_KEY" -H 'Content-Type: application/json' -d '
{{"agent": "my-agent", "model": "gpt-4o", "amount_usd": "0.01",
  "idempotency_key": "call-1"}}'

curl {base}v1/holds/$HOLD/settle \\
  -H "Authorization: Bearer $BURSAR_KEY" -H 'Content-Type: application/json' -d '
{{"cost_usd": "0.008"}}'</pre>
<p>201 means go on, 402 no room (and until when), 403 stopped (and by whom). Budgets, what they raised and
who is stopped: <code>/v1/budgets</code>, <code>/v1/incidents</code>, <code>/v1/gates</code>, with a key.</p>
<h2>Look around</h2>
<ul>
  <li><a href="/docs">Every route</a>, <a href="/openapi.json">as OpenAPI</a></li>
  <li><a href="/v1/models">Models and their prices</a></li>
  <li><a href="/v1/status">Status</a>, <a href="/metrics">metrics</a></li>
</ul>
<h2>What comes here</h2>
<p>This page becomes the dashboard: spend over time, what is left of each budget, buttons that pause and
kill, alerts that are delivered. Until then the command line and the API show every figure and stop
every agent.</p>"""


def pages_router(document: Callable[[], Mapping[str, object]]) -> APIRouter:
    """Return the pages; `document` gives the OpenAPI document when it is asked for."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def front(request: Request) -> HTMLResponse:
        """Show what works and what comes."""
        return _page("Bursar", _FRONT.format(base=escape(str(request.base_url))))

    @router.get("/docs")
    async def routes() -> HTMLResponse:
        """Show every route with its parameters."""
        head = '<h1>Routes</h1><p class="lead">Also <a href="/openapi.json">as an OpenAPI document</a>.</p>'
        return _page("Bursar: routes", head + "".join(_sections(document())))

    return router


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=escape(title), style=_STYLE, body=body, version=bursar.__version__)
    )


def _sections(document: Mapping[str, object]) -> Iterator[str]:
    """Yield a section for each tag, its routes in the document's order."""
    by_tag: dict[str, list[str]] = {}
    paths = document["paths"]
    if not isinstance(paths, Mapping):
        raise TypeError("an OpenAPI document has a mapping of paths")
    for path, operations in paths.items():
        for method, operation in operations.items():
            tag = next(iter(operation.get("tags", [])), "other")
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>{''.join(operations)}"


def _operation(method: str, path: str, operation: Mapping[str, object]) -> str:
    """Return one route: method, path and sentence; its parameters behind a click."""
    said = str(operation.get("description") or operation.get("summary") or "")
    head = (
        f'<summary><span class="method">{escape(method.upper())}</span><code>{escape(path)}</code>'
        f'<span class="said">{escape(said)}</span></summary>'
    )
    return f"<details>{head}<div>{_parameters(operation)}</div></details>"


def _parameters(operation: Mapping[str, object]) -> str:
    parameters = operation.get("parameters")
    if not isinstance(parameters, list) or not parameters:
        return "No parameters besides the body." if "requestBody" in operation else "No parameters."
    items = (
        f"<li><code>{escape(one['name'])}</code> {escape(one.get('description') or '')}</li>"
        for one in parameters
    )
    return f"<ul>{''.join(items)}</ul>"
