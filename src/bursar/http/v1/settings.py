"""`/v1/settings` and `PUT /v1/dashboard/settings`: an organisation's name and zone.

A new zone moves where days, weeks and months of reports begin. Budgets keep the zone that they were made
with: each is stored with a zone by name, also where the organisation's was taken.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request

from bursar.capture import checks
from bursar.core.errors import Conflict, InvalidInput
from bursar.core.ids import text_from_id
from bursar.core.time import Clock, text_from_micros
from bursar.core.zones import parse_zone
from bursar.directory.organisations import Organisation, OrganisationStore
from bursar.http.v1.budget_forms import Fields, documented_body, fields_of, only
from bursar.http.v1.budgets import require_whole
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

_FIELDS: Final = ("org_name", "timezone")
_BODY: Final = documented_body(
    {
        "org_name": {"type": "string", "minLength": 1, "maxLength": checks.NAME_LENGTH_MAX},
        "timezone": {"type": "string", "description": "IANA name, for example Europe/Berlin."},
    }
)
_CHANGES: Final = (
    ("PUT", "/settings", "settings_put"),
    ("PATCH", "/settings", "settings_change"),
    ("PUT", "/dashboard/settings", "dashboard_settings_put"),
)


def settings_router(guard: Guard, organisations: OrganisationStore, clock: Clock) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["settings"])

    @router.get("/settings", operation_id="settings_get")
    async def get_settings(
        principal: Annotated[Principal, Depends(guard(Scope.READ))],
    ) -> dict[str, object]:
        """Show the organisation's name, zone and plan."""
        return _body(await organisations.get(principal.org))

    for method, path, operation in _CHANGES:
        _add_change(router, guard, organisations, clock, (method, path, operation))
    return router


def _add_change(
    router: APIRouter,
    guard: Guard,
    organisations: OrganisationStore,
    clock: Clock,
    route: tuple[str, str, str],
) -> None:
    """Add one of the routes that change settings; all take a part of the fields as well as all of them."""
    method, path, operation = route

    @router.api_route(
        path, methods=[method], operation_id=operation, openapi_extra=_BODY, summary="Change name and zone"
    )
    async def change(
        principal: Annotated[Principal, Depends(guard(Scope.ADMIN))], request: Request
    ) -> dict[str, object]:
        """Change `org_name`, `timezone` or both; budgets keep the zone that they were made with."""
        require_whole(principal)
        changes = _changes(await fields_of(request))
        try:
            changed = await organisations.change(principal.org, changes, at=clock(), actor=principal.actor)
        except Conflict as error:
            raise Conflict(error.detail, field="org_name") from None
        return _body(changed)


def _changes(fields: Fields) -> dict[str, object]:
    """Return what is to be different; null means as it is.

    Raises:
        InvalidInput: An unknown field, a name that is none, or an unknown zone.
    """
    only(fields, *_FIELDS)
    changes: dict[str, object] = {}
    name, zone = fields.get("org_name"), fields.get("timezone")
    if name is not None:
        changes["name"] = checks.name(name, "org_name")
    if zone is not None:
        if not isinstance(zone, str):
            raise InvalidInput("timezone must be an IANA name, for example Europe/Berlin", field="timezone")
        changes["zone"] = parse_zone(zone).key
    return changes


def _body(organisation: Organisation) -> dict[str, object]:
    return {
        "org_id": text_from_id("org", organisation.id),
        "org_name": organisation.name,
        "timezone": organisation.zone,
        "tier": organisation.plan,
        "currency": organisation.currency,
        "subscription_status": organisation.subscription_status.value,
        "created_at": text_from_micros(organisation.created_at),
    }
