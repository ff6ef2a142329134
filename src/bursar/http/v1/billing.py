"""/v1/billing: the plan as data, pausing and resuming it, and the organisation's end.

No money is taken here: what needs a payment provider answers 501 until one is configured. Not here: what a
paused subscription may not do (`ingestion.admission`), the restoring of a deleted organisation (`cli`).
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from bursar.core.errors import Conflict
from bursar.core.ids import Org
from bursar.core.time import text_from_micros
from bursar.directory.organisations import Organisation, OrganisationStore, SubscriptionStatus
from bursar.http.v1.budgets import require_whole
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal
from bursar.web.problems import PROBLEM_TYPE, encode, problem

NOT_CONFIGURED: Final = "billing_not_configured"
_NEED_PAYMENTS: Final = (
    ("POST", "checkout"),
    ("POST", "portal"),
    ("POST", "confirm-payment"),
    ("POST", "change-tier"),
    ("POST", "cancel"),
    ("POST", "reactivate"),
    ("POST", "toggle-auto-renew"),
    ("GET", "payments"),
)

ForgetOrg = Callable[[Org], None]


def billing_router(
    guard: Guard, organisations: OrganisationStore, clock: Callable[[], int], forget: ForgetOrg
) -> APIRouter:
    """Return the routes; `forget` has whoever keeps an organisation read it anew."""
    router = APIRouter(prefix="/v1/billing", tags=["billing"])
    Admin = Annotated[Principal, Depends(guard(Scope.ADMIN))]  # noqa: N806 - a type

    @router.get("/plan", operation_id="billing_plan")
    async def plan(principal: Annotated[Principal, Depends(guard(Scope.READ))]) -> dict[str, object]:
        """Show the plan, its quotas (null is without a limit) and whether the subscription runs."""
        return _plan(await organisations.get(principal.org))

    async def become(principal: Principal, status: SubscriptionStatus) -> dict[str, object]:
        require_whole(principal)
        before = await organisations.get(principal.org)
        if before.subscription_status is SubscriptionStatus.CANCELLED:
            raise Conflict("the subscription is cancelled; the operator sets it with `bursar orgs set`")
        changed = await organisations.change(
            principal.org, {"subscription_status": status}, at=clock(), actor=principal.actor
        )
        forget(principal.org)
        return _plan(changed)

    @router.post("/pause", operation_id="billing_pause")
    async def pause(principal: Admin) -> dict[str, object]:
        """Refuse usage from now on, until it is resumed: nothing is recorded meanwhile."""
        return await become(principal, SubscriptionStatus.PAUSED)

    @router.post("/resume", operation_id="billing_resume")
    async def resume(principal: Admin) -> dict[str, object]:
        """Take usage again."""
        return await become(principal, SubscriptionStatus.ACTIVE)

    @router.delete("/delete-organization", operation_id="billing_delete_organization")
    async def delete_organization(
        principal: Annotated[Principal, Depends(guard.owner)],
    ) -> dict[str, object]:
        """Delete the organisation: nothing of it may be used until it is restored; its ledger stays."""
        before = await organisations.get(principal.org)
        at = clock() if before.deleted_at is None else before.deleted_at
        await organisations.change(principal.org, {"deleted_at": at}, at=clock(), actor=principal.actor)
        forget(principal.org)
        return {
            "status": "deleted",
            "deleted_at": text_from_micros(at),
            "restore": f"bursar orgs restore {before.name}",
        }

    _add_unconfigured(router, guard)
    return router


def _add_unconfigured(router: APIRouter, guard: Guard) -> None:
    """Add the routes that need a payment provider."""
    documented: dict[int | str, dict[str, Any]] = {501: {"description": "No payment provider is configured."}}

    async def not_configured() -> Response:
        """Answer 501: there is no payment provider here."""
        detail = "no payment provider is configured; plans and quotas are set with `bursar orgs set`"
        body = problem(501, NOT_CONFIGURED, detail)
        return Response(encode(body), status_code=501, media_type=PROBLEM_TYPE.decode())

    for method, name in _NEED_PAYMENTS:
        router.add_api_route(
            f"/{name}",
            not_configured,
            methods=[method],
            operation_id=f"billing_{name.replace('-', '_')}",
            dependencies=[Depends(guard(Scope.ADMIN))],
            responses=documented,
        )
    # The provider calls this one, with a signature instead of a credential.
    router.add_api_route(
        "/webhook", not_configured, methods=["POST"], operation_id="billing_webhook", responses=documented
    )


def _plan(organisation: Organisation) -> dict[str, object]:
    """Return the plan in the words of the reference; there are no trials where nothing is paid."""
    quotas = organisation.quotas
    return {
        "tier": organisation.plan,
        "plan": organisation.plan,
        "subscription_status": organisation.subscription_status.value,
        "events_per_day": quotas.events_per_day,
        "burst_per_s": quotas.burst_per_s,
        "max_agents": quotas.max_agents,
        "quotas": {
            "events_per_day": quotas.events_per_day,
            "burst_per_s": quotas.burst_per_s,
            "max_agents": quotas.max_agents,
        },
        "trial": None,
        "trial_ends_at": None,
        "auto_renew": False,
        "billing": NOT_CONFIGURED,
        "org_name": organisation.name,
        "deleted_at": None if organisation.deleted_at is None else text_from_micros(organisation.deleted_at),
    }
