"""/v1/auth/first-run: whoever holds the link that the server printed becomes the first owner.

    GET   a page with a form for a browser, JSON for a program    uses nothing up
    POST  address and password                                    the link is over; an access token

Not here: the link itself (`identity.first_run`), who prints it (`cli.serving`).
"""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from bursar.capture import checks
from bursar.core.time import text_from_micros
from bursar.http.v1.auth_answers import login_body, no_store
from bursar.http.v1.auth_forms import FirstOwner
from bursar.identity.first_run import FirstRun

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bursar: the first owner</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 26rem; margin: 4rem auto; padding: 0 1.5rem; }}
  label {{ display: block; margin: 1rem 0 .2rem; }}
  input, button {{ font: inherit; width: 100%; padding: .5rem; box-sizing: border-box; }}
  button {{ margin-top: 1.5rem; }}
</style>
<h1>Become the owner</h1>
<p>Of the organisation <b>{org_name}</b> on this server. The link works once, until {until}.</p>
<form id="form">
  <label for="email">Email</label>
  <input id="email" type="email" autocomplete="username" required>
  <label for="password">Password, 8 characters or more</label>
  <input id="password" type="password" autocomplete="new-password" minlength="8" maxlength="256" required>
  <button>Become the owner</button>
</form>
<p id="said" role="status"></p>
<script>
  const form = document.getElementById("form");
  const said = document.getElementById("said");
  form.addEventListener("submit", async (event) => {{
    event.preventDefault();
    const body = {{ email: form.email.value, password: form.password.value }};
    const answer = await fetch(location.href, {{
      method: "POST", headers: {{ "Content-Type": "application/json" }}, body: JSON.stringify(body),
    }});
    const found = await answer.json();
    if (answer.ok) form.remove();
    said.textContent = answer.ok ? "You are the owner, and can log in now." : found.detail;
  }});
</script>
</html>
"""

Token = Annotated[str, Query(max_length=128, description="From the link that the server printed.")]


def first_run_router(first_run: FirstRun) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/auth", tags=["auth"], dependencies=[Depends(no_store)])

    @router.get("/first-run", operation_id="auth_first_run", response_model=None)
    async def look(token: Token, request: Request) -> dict[str, object] | Response:
        """Tell what the link's holder may become owner of."""
        offer = await first_run.look(token)
        until = text_from_micros(offer.expires_at)
        if "text/html" in request.headers.get("accept", ""):
            page = _PAGE.format(org_name=escape(offer.org_name), until=escape(until))
            return HTMLResponse(page, headers=_HEADERS)
        return {"organisation": offer.org_name, "expires_at": until}

    @router.post("/first-run", operation_id="auth_first_run_claim")
    async def claim(token: Token, body: FirstOwner) -> dict[str, object]:
        """Make the link's holder the owner, and log in."""
        signed = await first_run.claim(
            token,
            body.email,
            body.password,
            first_name=checks.optional_name(body.first_name, "first_name"),
            last_name=checks.optional_name(body.last_name, "last_name"),
        )
        return login_body(signed)

    return router
