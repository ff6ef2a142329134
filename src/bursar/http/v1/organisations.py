"""/v1/organisations: make, list, change, delete and restore organisations; the operator alone may.

An organisation's own keys see one ledger each, so none of them may do this. Deleting is soft: nothing of the
organisation can be used any more, every row stays, and a restore brings all of it back.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from bursar.capture import checks
from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import id_from_text, text_from_id
from bursar.core.time import text_from_micros
from bursar.core.zones import parse_zone
from bursar.directory.organisations import Organisation, OrganisationStore, Quotas, SubscriptionStatus
from bursar.web.guard import Guard

CreateOrganisation = Callable[[str, str], Awaitable[Organisation]]
"""Makes an organisation of a name and a zone; raises `Conflict` when the name is taken."""

_COUNT_MAX = 2**53
_OPERATOR = "operator"


class NewOrganisation(BaseModel):
    """What a new organisation is to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256, description="Unique in this installation.")
    zone: str = Field(default="UTC", description="IANA time zone in which its days and months begin.")


class OrganisationChange(BaseModel):
    """What is to be different; what is left out stays. A quota of null is no limit."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=256)
    zone: str | None = Field(default=None, description="IANA time zone in which its days and months begin.")
    subscription_status: SubscriptionStatus | None = None
    plan: str | None = Field(default=None, min_length=1, max_length=64)
    events_per_day: int | None = Field(default=None, ge=1, le=_COUNT_MAX)
    burst_per_s: int | None = Field(default=None, ge=1, le=_COUNT_MAX)
    max_agents: int | None = Field(default=None, ge=1, le=_COUNT_MAX)

    def changes(self, before: Organisation) -> dict[str, object]:
        """Return the fields that were given, as the store takes them.

        Raises:
            InvalidInput: A name or zone that cannot be, or null where a value is needed.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        quotas = {name: value for name, value in given.items() if name in Quotas.__struct_fields__}
        plain = {name: value for name, value in given.items() if name not in quotas}
        for name, value in plain.items():
            if value is None:
                raise InvalidInput(f"{name} needs a value; leave it out to keep it", field=name)
        if "name" in plain:
            plain["name"] = checks.name(plain["name"], "name")
        if "zone" in plain:
            plain["zone"] = parse_zone(plain["zone"], field="zone").key
        if quotas:
            now = {name: getattr(before.quotas, name) for name in Quotas.__struct_fields__}
            plain["quotas"] = Quotas(**now | quotas)
        return plain


def organisations_router(
    guard: Guard,
    organisations: OrganisationStore,
    create_organisation: CreateOrganisation,
    *,
    clock: Callable[[], int],
    forget: Callable[[], None],
) -> APIRouter:
    """Return the routes; each asks for the operator's token. `forget` empties cached credentials."""
    router = APIRouter(
        prefix="/v1/organisations", tags=["organisations"], dependencies=[Depends(guard.operator)]
    )

    async def found(text: str) -> Organisation:
        wanted = id_from_text(text, field="organisation_id")
        for organisation in await organisations.list():
            if organisation.id == wanted:
                return organisation
        raise NotFound("no such organisation", field="organisation_id")

    async def changed(organisation: Organisation, changes: dict[str, object]) -> dict[str, object]:
        after = await organisations.change(organisation.org, changes, at=clock(), actor=_OPERATOR)
        forget()
        return organisation_body(after)

    @router.post("", status_code=201, operation_id="organisations_create")
    async def create(body: NewOrganisation) -> dict[str, object]:
        """Make an organisation. It has no key yet: make one at `/v1/keys` with `X-Bursar-Org`."""
        zone = parse_zone(body.zone, field="zone").key
        return organisation_body(await create_organisation(checks.name(body.name, "name"), zone))

    @router.get("", operation_id="organisations_list")
    async def list_organisations() -> dict[str, list[dict[str, object]]]:
        """List the organisations of this installation, oldest first, deleted ones too."""
        return {"data": [organisation_body(organisation) for organisation in await organisations.list()]}

    @router.patch("/{organisation_id}", operation_id="organisations_change")
    async def change(organisation_id: str, body: OrganisationChange) -> dict[str, object]:
        """Change an organisation's name, zone, subscription, plan or quotas."""
        organisation = await found(organisation_id)
        return await changed(organisation, body.changes(organisation))

    @router.delete("/{organisation_id}", operation_id="organisations_delete")
    async def delete(organisation_id: str) -> dict[str, object]:
        """Delete an organisation softly: its keys and people are refused at once, its rows stay."""
        organisation = await found(organisation_id)
        return await changed(organisation, {"deleted_at": organisation.deleted_at or clock()})

    @router.post("/{organisation_id}/restore", operation_id="organisations_restore")
    async def restore(organisation_id: str) -> dict[str, object]:
        """Undo a deletion."""
        return await changed(await found(organisation_id), {"deleted_at": None})

    return router


def organisation_body(organisation: Organisation) -> dict[str, object]:
    """Return an organisation as the routes show it."""
    deleted = organisation.deleted_at
    return {
        "id": text_from_id("org", organisation.id),
        "name": organisation.name,
        "zone": organisation.zone,
        "currency": organisation.currency,
        "cost_basis": organisation.cost_basis,
        "created_at": text_from_micros(organisation.created_at),
        "deleted_at": None if deleted is None else text_from_micros(deleted),
        "subscription_status": organisation.subscription_status.value,
        "plan": organisation.plan,
        "events_per_day": organisation.quotas.events_per_day,
        "burst_per_s": organisation.quotas.burst_per_s,
        "max_agents": organisation.quotas.max_agents,
    }
