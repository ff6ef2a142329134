"""/v1/alerts/configs: at which share of an agent's budgets whom to tell.

Kept now; deliveries read them. A config of the channel `kill` is no message: the budgets that
the agent's client brought along stop it at that share. Targets are shown as far as they are no secret.
"""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from bursar.capture import checks
from bursar.core.errors import Conflict, Denied, InvalidInput, NotFound
from bursar.core.ids import Org, id_from_text, new_id, text_from_id
from bursar.core.time import text_from_micros
from bursar.enforcement import synced
from bursar.enforcement.alert_configs import CHANNELS, CONFIGS_MAX, AlertConfig, ConfigReader
from bursar.enforcement.changes import Change
from bursar.http.v1.budget_forms import Fields, documented_body, fields_of, only
from bursar.http.v1.budgets import PAGE_MAX, BudgetRoutes, ListParams, page_of, place_of, require_whole
from bursar.http.v1.org_budgets import TYPES
from bursar.http.v1.sync_body import share_of, text_or_none
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

ID: Final = "alc"
_PPM: Final = 1_000_000
_FIELDS: Final = ("agent_name", "channel", "threshold_pct", "target", "secret", "budget_type")
_BODY: Final = documented_body(
    {
        "agent_name": {"type": "string", "minLength": 1, "maxLength": 256},
        "channel": {"type": "string", "enum": [*CHANNELS]},
        "threshold_pct": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "A fraction.",
        },
        "target": {"type": ["string", "null"], "description": "An address, a URL or a routing key."},
        "secret": {"type": ["string", "null"], "description": "What a webhook is signed with."},
        "budget_type": {"type": "string", "enum": [*TYPES], "default": "cost"},
    },
    "agent_name",
    "channel",
    "threshold_pct",
)


def alert_configs_router(guard: Guard, routes: BudgetRoutes, reader: ConfigReader) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/alerts/configs", tags=["alerts"])
    Changer = Annotated[Principal, Depends(guard(Scope.BUDGETS))]  # noqa: N806 - a type

    @router.get("", operation_id="alert_configs_list")
    async def list_configs(
        principal: Annotated[Principal, Depends(guard(Scope.READ))], params: Annotated[ListParams, Query()]
    ) -> dict[str, object]:
        """List alert configs, oldest first; those that clients brought along name their `source`."""
        require_no_project(principal)
        agent = principal.agent or None
        after = place_of(params.cursor, b"")
        found = await reader.configs(principal.org, agent=agent, after=after, most=params.limit + 1)
        page = found[: params.limit]
        following = text_from_id(ID, page[-1].id) if len(found) > params.limit else None
        configs = [config_body(config) for config in page]
        return page_of(configs, following) | {"configs": configs}

    @router.post("", status_code=201, operation_id="alert_configs_create", openapi_extra=_BODY)
    async def create(principal: Changer, request: Request) -> dict[str, object]:
        """Make an alert config of an agent."""
        require_whole(principal)
        fields = await fields_of(request)
        only(fields, *_FIELDS)
        config = _config(fields, routes.now().at)
        if len(await reader.configs(principal.org, agent=config.agent, most=CONFIGS_MAX)) >= CONFIGS_MAX:
            raise Conflict(f"{config.agent} has {CONFIGS_MAX} alert configs; delete some", field="agent_name")

        async def work(change: Change) -> None:
            await synced.add_config(change, config, actor=principal.actor)

        await routes.desk.change(principal.org, work)
        return config_body(config)

    @router.delete("/{config_id}", status_code=204, operation_id="alert_configs_delete")
    async def delete(principal: Changer, config_id: str) -> Response:
        """Take an alert config away; one that a client brought along comes back with its next start."""
        require_whole(principal)
        found = await reader.config(principal.org, id_from_text(config_id, field="config_id"))
        if found is None:
            raise NotFound("there is no such alert config; GET /v1/alerts/configs lists them")
        config = found

        async def work(change: Change) -> None:
            await synced.remove_config(change, config, actor=principal.actor)

        await routes.desk.change(principal.org, work)
        return Response(status_code=204)

    return router


def require_no_project(principal: Principal) -> None:
    """Refuse a key that is bound to a project.

    Raises:
        Denied: Configs are kept by agent, and their targets are addresses of people.
    """
    if principal.project:
        raise Denied("this key is bound to one project; alert configs are kept by agent", field="project")


async def configs_of_agent(reader: ConfigReader, org: Org, agent: str) -> list[dict[str, object]]:
    """Return an agent's configs as they are shown, oldest first, at most 200."""
    found: Sequence[AlertConfig] = await reader.configs(org, agent=agent, most=PAGE_MAX)
    return [config_body(config) for config in found]


def config_body(config: AlertConfig) -> dict[str, object]:
    """Return a config as it is shown: secrets never, targets as far as they are none."""
    return {
        "id": text_from_id(ID, config.id),
        "agent_name": config.agent or None,
        "channel": config.channel,
        "threshold_pct": config.share_ppm / _PPM,
        "budget_type": config.metric,
        "target": _shown(config),
        "has_secret": config.secret is not None,
        "dispatch": "backend" if config.is_delivered else "sdk",
        "source": config.source,
        "created_at": text_from_micros(config.created_at),
    }


def _config(fields: Fields, at: int) -> AlertConfig:
    """Read a new config.

    Raises:
        InvalidInput: A field is missing or wrong.
    """
    channel, metric = fields.get("channel"), fields.get("budget_type", "cost")
    if channel not in CHANNELS:
        raise InvalidInput(f"channel must be one of {', '.join(CHANNELS)}", field="channel")
    if metric not in TYPES:
        raise InvalidInput(f"budget_type must be one of {', '.join(TYPES)}", field="budget_type")
    share_ppm = share_of(fields.get("threshold_pct"))
    if share_ppm is None:
        raise InvalidInput(
            "threshold_pct must be a fraction above 0 and at most 1, for example 0.8", field="threshold_pct"
        )
    return AlertConfig(
        id=new_id(),
        agent=checks.name(fields.get("agent_name"), "agent_name"),
        channel=str(channel),
        share_ppm=share_ppm,
        metric=str(metric),
        target=text_or_none(fields.get("target"), "target"),
        secret=text_or_none(fields.get("secret"), "secret"),
        created_at=at,
    )


def _shown(config: AlertConfig) -> str | None:
    """Return a target that may be read: an address whole, of a URL its host, of a key its end."""
    target = config.target
    if target is None or config.channel == "email":
        return target
    parts = urlsplit(target) if "://" in target else None
    if parts is not None and parts.hostname:
        return f"{parts.scheme}://{parts.hostname}/…"
    return f"…{target[-4:]}" if len(target) > 8 else "…"  # noqa: PLR2004 - shorter ones show nothing
