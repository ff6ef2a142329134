"""The table of every operation: who may call it, and what of an organisation its body names.

A route without a row here fails `test_matrix`. So do a parameter whose name stands neither in `NAMES` nor
in `PLAIN`, and a row whose route is gone. What a path or a query names follows from the parameter's name.
"""

from collections.abc import Mapping
from enum import Flag, StrEnum, auto
from types import MappingProxyType
from typing import NamedTuple


class Least(StrEnum):
    """The least that a caller must be."""

    PUBLIC = "whoever asks, whatever is sent as a credential"
    NOBODY = "whoever sends no credential, or one that is known"
    INGEST = "the scope ingest"
    READ = "the scope read"
    BUDGETS = "the scope budgets"
    ADMIN = "the scope admin"
    PEOPLE = "a member who is no viewer, or the scope admin"
    PERSON = "a person, in any role"
    SESSION = "a person with an access token"
    OWNER = "the owner, or the operator"
    OPERATOR = "the operator"


class Bound(Flag):
    """What a key may be bound to."""

    NONE = 0
    AGENT = auto()
    PROJECT = auto()
    ANY = AGENT | PROJECT


class Row(NamedTuple):
    """What is declared of one operation.

    Attributes:
        least: Who may call it, at least.
        body: A body that would be taken. `<agent>` stands for a name or id of the kind `agent`.
        bound: Keys that are bound to these may call it, if they have the scope.
        query: What a query has to have.
        undo: The operator's request that makes good what a caller did to its own organisation.
        tells_addresses: The reference has it tell whether a user has an address.
        is_last: Ends the caller's own credential, so that it comes after all the others.
    """

    least: Least
    body: object = None
    bound: Bound = Bound.NONE
    query: Mapping[str, str] = MappingProxyType({})
    undo: tuple[str, str] | None = None
    tells_addresses: bool = False
    is_last: bool = False


PUBLIC, NOBODY, INGEST, READ, BUDGETS, ADMIN, PEOPLE, PERSON, SESSION, OWNER, OPERATOR = Least
ANY = Bound.ANY

PASSWORD = "correct horse battery"

EVENT = {
    "agent_name": "<agent>", "provider": "openai", "model": "gpt-4o", "input_tokens": 10,
    "output_tokens": 5, "cost": 0, "timestamp": "2026-03-01T14:00:00Z", "project": "<project>",
    "feature": "<feature>", "user": "<user name>", "run_id": "<run>", "parent_run_id": "<run>",
    "session_id": "<run>", "hold_id": "<hold>", "org_id": "<organisation>", "api_key": "<key>",
    "idempotency_key": "<idempotency key>",
}  # fmt: skip
NATIVE_EVENT = {
    "agent": "<agent>", "provider": "openai", "model": "gpt-4o", "occurred_at": "2026-03-01T14:00:00Z",
    "project": "<project>", "feature": "<feature>", "user": "<user name>", "run_id": "<run>",
    "parent_run_id": "<run>", "session_id": "<run>", "idempotency_key": "<idempotency key>",
    "input_tokens": 10, "output_tokens": 5, "hold": "<hold>",
}  # fmt: skip
HOLD = {
    "agent": "<agent>", "provider": "openai", "model": "gpt-4o", "amount_usd": "0.01",
    "project": "<project>", "user": "<user name>", "run": "<run>", "parent_run": "<run>",
    "idempotency_key": "<idempotency key>",
}  # fmt: skip
LEASE = {
    "agent": "<agent>", "provider": "openai", "model": "gpt-4o", "project": "<project>",
    "user": "<user name>", "run": "<run>", "instance": "instance-1", "idempotency_key": "<idempotency key>",
    "wants": {"amount_usd": "0.01"},
}  # fmt: skip
ENTRY = {
    "sequence": 1, "idempotency_key": "<idempotency key>", "cost_usd": "0.001", "model": "<model>",
}  # fmt: skip
REPORT = {"instance": "instance-1", "report": 1, "entries": [ENTRY], "give_back_usd": "0"}
SCOPE = {
    "agent": "<agent>", "project": "<project>", "api_key": "<key>", "user": "<user name>", "run": "<run>",
    "model": "<model>", "provider": "<provider>",
}  # fmt: skip
BUDGET = {"name": "b", "scope": SCOPE, "limit": "1", "period": "daily"}
LIMIT = {"budget_type": "cost", "period": "daily", "limit_value": 1000}
SYNC = {
    "agent_name": "<agent>", "budgets": [LIMIT], "org_budget": None, "org_alert_configs": [],
    "alert_configs": [{"channel": "email", "threshold_pct": 0.8, "target": "<email>"}],
}  # fmt: skip
TRACK = {
    "provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 1, "latencyMs": 1,
    "projectId": "<project>", "userId": "<user name>", "feature": "<feature>", "agent": "<agent>",
    "success": True, "metadata": {"org_id": "<organisation>"},
}  # fmt: skip
ALERT = {"agent_name": "<agent>", "channel": "email", "threshold_pct": 0.5, "target": "<email>"}
KEY = {"name": "k", "scopes": ["read"], "agent": "<agent>", "project": "<project>"}
PRICE = {"pattern": "<model>", "percent": -10}
LOGIN = {"email": "<email>", "password": "not the right one"}
CODE = {"email": "<email>", "code": "000000"}
NEW_USER = {"email": "<fresh email>", "password": PASSWORD, "role": "member"}
REASON = {"reason": "r"}
RESTORE = ("POST", "/v1/organisations/<organisation>/restore")
GO_ON = ("POST", "/v1/billing/resume")
RESUME_ALL = ("POST", "/v1/agents/resume-all")
RENAME = ("PATCH", "/v1/organisations/<organisation>")

ROWS: dict[str, Row] = {
    "GET /healthz": Row(PUBLIC),
    "GET /readyz": Row(PUBLIC),
    "GET /metrics": Row(PUBLIC),
    "GET /v1/status": Row(PUBLIC),
    # What clients send.
    "POST /v1/ingest": Row(INGEST, {"events": [EVENT]}, bound=ANY),
    "POST /v1/track": Row(INGEST, TRACK, bound=ANY),
    "POST /v1/events": Row(INGEST, NATIVE_EVENT, bound=ANY),
    "POST /v1/sync-config": Row(INGEST, SYNC, bound=ANY),
    "POST /v1/holds": Row(INGEST, HOLD, bound=ANY),
    "POST /v1/holds/{hold_id}/settle": Row(INGEST, NATIVE_EVENT, bound=ANY),
    "POST /v1/holds/{hold_id}/void": Row(INGEST, REASON, bound=ANY),
    "POST /v1/holds/{hold_id}/extend": Row(INGEST, {"deadline_s": 60}, bound=ANY),
    "POST /v1/leases": Row(INGEST, LEASE, bound=ANY),
    "POST /v1/leases/{lease_id}/report": Row(INGEST, REPORT, bound=ANY),
    "POST /v1/leases/{lease_id}/return": Row(INGEST, REPORT, bound=ANY),
    "GET /v1/imports/cursors/{source}": Row(ADMIN, bound=ANY),
    "PUT /v1/imports/cursors/{source}": Row(ADMIN, {"cursor": "c"}, bound=ANY),
    # What was spent.
    "GET /v1/events": Row(READ, bound=ANY),
    "GET /v1/events/{event_id}": Row(READ, bound=ANY),
    "GET /v1/costs": Row(READ, bound=ANY),
    "GET /v1/reports/breakdown": Row(READ, bound=ANY),
    "GET /v1/reports/series": Row(READ, bound=ANY),
    "GET /v1/reports/top": Row(READ, bound=ANY),
    "GET /v1/dashboard/overview": Row(READ),
    "GET /v1/dashboard/spend": Row(READ, bound=ANY),
    "GET /v1/dashboard/stats": Row(READ),
    "GET /v1/agents": Row(READ, bound=Bound.AGENT),
    "GET /v1/agents/{name}": Row(READ, bound=Bound.AGENT),
    "GET /v1/agents/{name}/alerts": Row(READ, bound=ANY),
    "GET /v1/agents/{name}/budgets": Row(READ, bound=ANY),
    "GET /v1/agents/{name}/configs": Row(READ, bound=Bound.AGENT),
    "GET /v1/agents/{name}/events": Row(READ, bound=ANY),
    "GET /v1/agents/{name}/runs": Row(READ, bound=Bound.AGENT),
    "GET /v1/runs/{run_id}": Row(READ, bound=Bound.AGENT),
    "GET /v1/runs/{run_id}/events": Row(READ, bound=Bound.AGENT),
    "GET /v1/quarantine": Row(ADMIN),
    # Budgets and stops.
    "GET /v1/budgets": Row(READ, bound=ANY),
    "POST /v1/budgets": Row(BUDGETS, BUDGET),
    "POST /v1/budgets/simulate": Row(READ, {"budget": BUDGET}),
    "GET /v1/budgets/{budget_id}": Row(READ, bound=ANY),
    "PATCH /v1/budgets/{budget_id}": Row(BUDGETS, {"limit": "2"}),
    "DELETE /v1/budgets/{budget_id}": Row(BUDGETS),
    "GET /v1/budgets/{budget_id}/alerts": Row(READ, bound=ANY),
    "GET /v1/budgets/{budget_id}/explain": Row(READ, bound=ANY),
    "GET /v1/budgets/{budget_id}/windows": Row(READ, bound=ANY),
    "POST /v1/agents/{name}/budgets": Row(BUDGETS, LIMIT),
    "GET /v1/org/budgets": Row(READ, bound=ANY),
    "POST /v1/org/budgets": Row(BUDGETS, LIMIT),
    "DELETE /v1/org/budgets/{budget_id}": Row(BUDGETS),
    "GET /v1/incidents": Row(READ, bound=ANY),
    "GET /v1/incidents/{incident_id}": Row(READ, bound=ANY),
    "POST /v1/incidents/{incident_id}/raise": Row(BUDGETS, {"limit": "2"}),
    "POST /v1/incidents/{incident_id}/keep": Row(BUDGETS, {"note": "n"}),
    "GET /v1/alerts": Row(READ, bound=ANY),
    "GET /v1/alerts/configs": Row(READ, bound=Bound.AGENT),
    "POST /v1/alerts/configs": Row(BUDGETS, ALERT),
    "DELETE /v1/alerts/configs/{config_id}": Row(BUDGETS),
    "GET /v1/holds": Row(READ, bound=ANY),
    "GET /v1/holds/{hold_id}": Row(READ, bound=ANY),
    "GET /v1/gates": Row(READ, bound=ANY),
    "POST /v1/agents/{name}/kill": Row(ADMIN, REASON),
    "POST /v1/agents/{name}/pause": Row(ADMIN, REASON),
    "POST /v1/agents/{name}/resume": Row(ADMIN, REASON),
    "POST /v1/projects/{name}/kill": Row(ADMIN, REASON),
    "POST /v1/projects/{name}/pause": Row(ADMIN, REASON),
    "POST /v1/projects/{name}/resume": Row(ADMIN, REASON),
    "POST /v1/agents/kill-all": Row(ADMIN, REASON, undo=RESUME_ALL),
    "POST /v1/agents/resume-all": Row(ADMIN, REASON),
    # Prices.
    "GET /v1/prices": Row(READ, bound=ANY),
    "POST /v1/prices": Row(BUDGETS, PRICE),
    "POST /v1/prices/import": Row(BUDGETS, {"<model>": {"litellm_provider": "openai"}}),
    "POST /v1/prices/{price_id}/end": Row(BUDGETS, {"valid_to": "2026-04-01T00:00:00Z"}),
    "GET /v1/prices/explain": Row(READ, bound=ANY, query={"model": "<model>"}),
    "POST /v1/prices/explain": Row(READ, {"model": "<model>", "provider": "<provider>"}, bound=ANY),
    "GET /v1/models": Row(NOBODY, bound=ANY),
    "GET /v1/pricing": Row(NOBODY, bound=ANY),
    "GET /v1/models/unpriced": Row(READ),
    "POST /v1/models/reprice": Row(ADMIN, {"model": "<model>", "provider": "<provider>"}),
    # The organisation.
    "GET /v1/settings": Row(READ, bound=ANY),
    "PUT /v1/settings": Row(ADMIN, {"timezone": "UTC"}),
    "PATCH /v1/settings": Row(ADMIN, {"timezone": "UTC"}),
    "PUT /v1/dashboard/settings": Row(ADMIN, {"timezone": "UTC"}),
    "GET /v1/keys": Row(ADMIN),
    "POST /v1/keys": Row(ADMIN, KEY),
    "DELETE /v1/keys/{key_id}": Row(ADMIN),
    "POST /v1/keys/{key_id}/rotate": Row(ADMIN, {"overlap_s": 0}),
    "GET /v1/audit": Row(ADMIN),
    "GET /v1/audit/export": Row(ADMIN),
    "GET /v1/organisations/{organisation_id}/members": Row(PEOPLE),
    "POST /v1/organisations/{organisation_id}/members": Row(OPERATOR, NEW_USER),
    "PATCH /v1/organisations/{organisation_id}/members/{user_id}": Row(ADMIN, {"role": "member"}),
    "DELETE /v1/organisations/{organisation_id}/members/{user_id}": Row(ADMIN),
    "POST /v1/organisations/{organisation_id}/members/{user_id}/tokens": Row(OPERATOR, {"name": "t"}),
    "GET /v1/organisations/{organisation_id}/invitations": Row(ADMIN),
    "POST /v1/organisations/{organisation_id}/invitations": Row(ADMIN, {"email": "<email>"}),
    "DELETE /v1/organisations/{organisation_id}/invitations/{invitation_id}": Row(ADMIN),
    "GET /v1/billing/plan": Row(READ, bound=ANY),
    "POST /v1/billing/pause": Row(ADMIN, undo=GO_ON),
    "POST /v1/billing/resume": Row(ADMIN),
    "DELETE /v1/billing/delete-organization": Row(OWNER, undo=RESTORE),
    "POST /v1/billing/cancel": Row(ADMIN, bound=ANY),
    "POST /v1/billing/change-tier": Row(ADMIN, bound=ANY),
    "POST /v1/billing/checkout": Row(ADMIN, bound=ANY),
    "POST /v1/billing/confirm-payment": Row(ADMIN, bound=ANY),
    "GET /v1/billing/payments": Row(ADMIN, bound=ANY),
    "POST /v1/billing/portal": Row(ADMIN, bound=ANY),
    "POST /v1/billing/reactivate": Row(ADMIN, bound=ANY),
    "POST /v1/billing/toggle-auto-renew": Row(ADMIN, bound=ANY),
    "POST /v1/billing/webhook": Row(PUBLIC),
    # The installation.
    "GET /v1/organisations": Row(OPERATOR),
    "POST /v1/organisations": Row(OPERATOR, {"name": "<organisation name>"}),
    "PATCH /v1/organisations/{organisation_id}": Row(OPERATOR, {"plan": "p"}),
    "DELETE /v1/organisations/{organisation_id}": Row(OPERATOR, undo=RESTORE),
    "POST /v1/organisations/{organisation_id}/restore": Row(OPERATOR),
    "POST /v1/clock/confirm": Row(OPERATOR),
    # A person's own account.
    "POST /v1/auth/register": Row(PUBLIC, LOGIN | {"org_name": "theirs"}),
    "POST /v1/auth/verify-email": Row(PUBLIC, CODE, tells_addresses=True),
    "POST /v1/auth/resend-otp": Row(PUBLIC, {"email": "<email>"}),
    "POST /v1/auth/login": Row(PUBLIC, LOGIN),
    "POST /v1/auth/refresh": Row(PUBLIC, {"refresh_token": "eyJ.eyJ.x"}),
    "POST /v1/auth/forgot-password": Row(PUBLIC, {"email": "<email>"}),
    "POST /v1/auth/verify-reset-code": Row(PUBLIC, CODE),
    "POST /v1/auth/reset-password": Row(PUBLIC, {"reset_token": "eyJ.eyJ.x", "new_password": PASSWORD}),
    "GET /v1/auth/first-run": Row(PUBLIC),
    "POST /v1/auth/first-run": Row(PUBLIC, LOGIN),
    "GET /v1/auth/methods": Row(PUBLIC),
    "GET /v1/auth/oidc/start": Row(PUBLIC),
    "GET /v1/auth/oidc/callback": Row(PUBLIC),
    "POST /v1/auth/accept-invitation": Row(NOBODY, {"code": "unknown"}, bound=ANY),
    "GET /v1/auth/me": Row(PERSON),
    "POST /v1/auth/switch": Row(SESSION, {"organisation": "<organisation>"}),
    "POST /v1/auth/change-password": Row(SESSION, {"current_password": PASSWORD, "new_password": "no"}),
    "POST /v1/auth/tokens": Row(SESSION, {"name": "a program"}),
    "GET /v1/auth/tokens": Row(PERSON),
    "DELETE /v1/auth/tokens/{token_id}": Row(PERSON),
    "POST /v1/auth/logout": Row(SESSION, is_last=True),
}  # fmt: skip

NAMES: dict[str, str] = {
    "agent": "agent",
    "api_key": "key",
    "budget": "budget",
    "budget_id": "budget",
    "config_id": "alert config",
    "event_id": "event",
    "feature": "feature",
    "hold_id": "hold",
    "idempotency_key": "idempotency key",
    "incident_id": "incident",
    "invitation_id": "invitation",
    "key_id": "key",
    "lease_id": "lease",
    "model": "model",
    "organisation_id": "organisation",
    "price_id": "price",
    "project": "project",
    "projectId": "project",
    "provider": "provider",
    "run": "run",
    "run_id": "run",
    "source": "import",
    "token": "invitation code",
    "token_id": "token",
    "user": "user name",
    "user_id": "user",
    "actor": "actor",
}
"""What a parameter names, by its own name."""

NAME_OF_PATH = {"/v1/agents/": "agent", "/v1/projects/": "project"}
"""What `{name}` names, by where it stands."""

PLACES = frozenset({"cursor"})
"""Parameters that say where a page begins: any id may come there."""

PLAIN = frozenset({
    "Idempotency-Key", "action", "at", "billing", "by", "code", "days", "dry_run", "end", "error", "format",
    "from", "from_date", "granularity", "groupBy", "iss", "kind", "limit", "range", "return_to",
    "service_tier", "start", "state", "status", "template", "to", "to_date", "valid_from", "valid_to", "zone",
    "reported_cost_usd", "input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens", "output_audio_tokens",
    "input_image_tokens", "output_image_tokens", "web_searches",
})  # fmt: skip
"""Parameters that name nothing of an organisation."""


def kind_of(path: str, parameter: str) -> str | None:
    """Return the kind of thing that a parameter of `path` names; None for one that names nothing.

    Raises:
        KeyError: Nobody has said what it names.
    """
    if parameter == "name":
        return next(kind for start, kind in NAME_OF_PATH.items() if path.startswith(start))
    if parameter in PLAIN or parameter in PLACES:
        return None
    return NAMES[parameter]


def path_of(path: str, names: Mapping[str, str], instead: str = "") -> str:
    """Return a path with a name in each place, or with `instead` in all of them."""
    parts = [
        part if part[0] != "{" else instead or names[kind_of(path, part[1:-1]) or ""]
        for part in path[1:].split("/")
    ]
    return "/" + "/".join(parts)
