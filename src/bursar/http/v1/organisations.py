"""/v1/organisations: make and list organisations; the operator alone may.

An organisation's own keys see one ledger each, so none of them may do this.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from bursar.capture import checks
from bursar.core.ids import text_from_id
from bursar.core.time import text_from_micros
from bursar.core.zones import parse_zone
from bursar.directory.organisations import Organisation, OrganisationStore
from bursar.web.guard import Guard

CreateOrganisation = Callable[[str, str], Awaitable[Organisation]]
"""Makes an organisation of a name and a zone; raises `Conflict` when the name is taken."""


class NewOrganisation(BaseModel):
    """What a new organisation is to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256, description="Unique in this installation.")
    zone: str = Field(default="UTC", description="IANA time zone in which its days and months begin.")


def organisations_router(
    guard: Guard, organisations: OrganisationStore, create_organisation: CreateOrganisation
) -> APIRouter:
    """Return the routes; each asks for the operator's token."""
    router = APIRouter(
        prefix="/v1/organisations", tags=["organisations"], dependencies=[Depends(guard.operator)]
    )

    @router.post("", status_code=201, operation_id="organisations_create")
    async def create(body: NewOrganisation) -> dict[str, str]:
        """Make an organisation. It has no key yet: make one at `/v1/keys` with `X-Bursar-Org`."""
        zone = parse_zone(body.zone, field="zone").key
        return _body(await create_organisation(checks.name(body.name, "name"), zone))

    @router.get("", operation_id="organisations_list")
    async def list_organisations() -> dict[str, list[dict[str, str]]]:
        """List the organisations of this installation, oldest first."""
        return {"data": [_body(organisation) for organisation in await organisations.list()]}

    return router


def _body(organisation: Organisation) -> dict[str, str]:
    return {
        "id": text_from_id("org", organisation.id),
        "name": organisation.name,
        "zone": organisation.zone,
        "currency": organisation.currency,
        "cost_basis": organisation.cost_basis,
        "created_at": text_from_micros(organisation.created_at),
    }
