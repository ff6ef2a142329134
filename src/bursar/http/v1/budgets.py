"""/v1/budgets: make, read, change and end budgets; the windows in which they count.

A change is effective for the next authorise. Not here: the form of bodies (`budget_forms`,
`budget_answers`), what a change does to running windows (`enforcement.changes`).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bursar.budgets.budget import Budget, Scope
from bursar.budgets.clock import Now
from bursar.budgets.reading import budget_from_fields
from bursar.budgets.window import NEVER, WindowKey
from bursar.core.errors import Denied, InvalidInput, NotFound
from bursar.core.ids import Org, id_from_text, new_id, text_from_id
from bursar.core.time import MICROS_MIN
from bursar.enforcement import administration
from bursar.enforcement.changes import Change
from bursar.enforcement.desk import Desk
from bursar.enforcement.reading import BudgetReader, Seen, Sight
from bursar.http.v1.budget_answers import ALERT_ID, ID, KeyTexts, alert_body, budget_body, window_body
from bursar.http.v1.budget_forms import (
    CHANGES_DOCUMENTED,
    NEW_DOCUMENTED,
    budget_fields,
    changes_of,
    fields_of,
    keyed_id,
)
from bursar.http.v1.report_query import TEXT_MAX
from bursar.identity.keys import Scope as KeyScope
from bursar.identity.ports import KeyStore
from bursar.web.guard import Guard
from bursar.web.principal import Principal

PAGE_MAX: Final = 200
NEWEST: Final = b"\xff" * 16
"""Where the first page of a list that begins with the newest id goes on from."""

_CURSOR = Field(default=None, max_length=TEXT_MAX, description="`next_cursor` of the page before.")


class ListParams(BaseModel):
    """The parameters of a list's page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most entries.")
    cursor: str | None = _CURSOR


class BudgetParams(ListParams):
    """The parameters of `GET /v1/budgets`."""

    agent: str = Field(default="", max_length=TEXT_MAX, description="Only what may count this agent's calls.")
    project: str = Field(default="", max_length=TEXT_MAX, description="Only what may count this project's.")
    template: bool | None = Field(default=None, description="Only templates, or only others.")


class WindowParams(ListParams):
    """The parameters of a budget's windows."""

    run: str = Field(default="", max_length=TEXT_MAX, description="The run, for a budget per run.")


class BudgetRoutes:
    """What the routes over budgets share: where to ask, whom to show what, and the names of keys.

    Args:
        desk: Where budgets are changed.
        reader: Where they are read.
        keys: The organisation's API keys.
        now: The time that decides.
    """

    def __init__(self, desk: Desk, reader: BudgetReader, keys: KeyStore, now: Callable[[], Now]) -> None:
        self.desk = desk
        self.reader = reader
        self.keys = keys
        self.now = now

    async def seen(self, principal: Principal, budget_id: bytes) -> Seen:
        """Return a budget that the caller may see.

        Raises:
            NotFound: There is none, or it counts no call of the caller's.
        """
        found = await self.reader.budget(principal.org, budget_id, self.now().at)
        if found is None or not sight_of(principal).shows(found.budget):
            raise NotFound("there is no such budget; GET /v1/budgets lists them", field="budget_id")
        return found

    async def body(self, principal: Principal, budget_id: bytes) -> dict[str, object]:
        """Return a budget as it stands, as JSON."""
        seen = await self.seen(principal, budget_id)
        return budget_body(seen, await self.key_texts(principal.org, [seen.budget.scope]))

    async def key_texts(self, org: Org, scopes: Iterable[Scope]) -> KeyTexts:
        """Return the ids of the keys that scopes name."""
        if not any(scope.api_key for scope in scopes):
            return {}
        return {key.number: text_from_id("key", key.id) for key in await self.keys.list(org)}


def sight_of(principal: Principal, *, agent: str = "", project: str = "") -> Sight:
    """Return what a caller may see of the budgets that it asks for.

    A key that is bound to an agent or a project sees the budgets that may count its own calls.

    Raises:
        Denied: It asks for another agent or project.
    """
    for field, bound, wanted in (("agent", principal.agent, agent), ("project", principal.project, project)):
        if bound and wanted not in {"", bound}:
            raise Denied(f"this key reads the {field} {bound} only", field=field)
    is_bound = bool(principal.agent or principal.project)
    return Sight(principal.agent or agent, principal.project or project, principal.api_key if is_bound else 0)


def require_whole(principal: Principal) -> None:
    """Refuse a key that is bound to a part of the organisation.

    Raises:
        Denied: Budgets and stops may concern others than its own.
    """
    if principal.project or principal.agent:
        raise Denied("this key is bound to one project or agent; changing budgets and stops needs a free one")


def page_of(data: list[dict[str, object]], following: str | None) -> dict[str, object]:
    """Return a page of a native list; `following` is the cursor of the next one, None at the end."""
    return {"data": data, "has_more": following is not None, "next_cursor": following}


def place_of(cursor: str | None, start: bytes) -> bytes:
    """Return the id behind which a page begins, `start` without a cursor.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    return start if cursor is None else id_from_text(cursor, field="cursor")


def budgets_router(guard: Guard, routes: BudgetRoutes) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/budgets", tags=["budgets"])
    Reader = Annotated[Principal, Depends(guard(KeyScope.READ))]  # noqa: N806 - a type

    @router.get("", operation_id="budgets_list")
    async def list_budgets(principal: Reader, params: Annotated[BudgetParams, Query()]) -> dict[str, object]:
        """List budgets in the order of their ids, each with the window that counts now."""
        sight = sight_of(principal, agent=params.agent, project=params.project)
        found = await routes.reader.budgets(
            principal.org,
            sight._replace(is_template=params.template),
            routes.now().at,
            after=place_of(params.cursor, b""),
            most=params.limit + 1,
        )
        page = found[: params.limit]
        keys = await routes.key_texts(principal.org, [seen.budget.scope for seen in page])
        following = text_from_id(ID, page[-1].budget.id) if len(found) > params.limit else None
        return page_of([budget_body(seen, keys) for seen in page], following)

    @router.get("/{budget_id}", operation_id="budgets_get")
    async def get_budget(principal: Reader, budget_id: str) -> dict[str, object]:
        """Show one budget with the window that counts now."""
        return await routes.body(principal, id_from_text(budget_id, field="budget_id"))

    @router.get("/{budget_id}/windows", operation_id="budgets_windows")
    async def list_windows(
        principal: Reader, budget_id: str, params: Annotated[WindowParams, Query()]
    ) -> dict[str, object]:
        """List the periods in which a budget has counted, newest first; each is kept as it ended."""
        budget = (await routes.seen(principal, id_from_text(budget_id, field="budget_id"))).budget
        before = WindowKey(budget.id, params.run, _start_of(params.cursor))
        found = await routes.reader.windows(principal.org, before, most=params.limit + 1)
        page = found[: params.limit]
        following = str(page[-1].starts_at) if len(found) > params.limit else None
        return page_of([window_body(budget, window) for window in page], following)

    @router.get("/{budget_id}/alerts", operation_id="budgets_alerts")
    async def list_alerts(
        principal: Reader, budget_id: str, params: Annotated[ListParams, Query()]
    ) -> dict[str, object]:
        """List what a budget has had to tell: thresholds, crossings, overruns; newest first."""
        budget = (await routes.seen(principal, id_from_text(budget_id, field="budget_id"))).budget
        before = place_of(params.cursor, NEWEST)
        found = await routes.reader.alerts(principal.org, budget.id, before=before, most=params.limit + 1)
        page = found[: params.limit]
        following = text_from_id(ALERT_ID, page[-1].id) if len(found) > params.limit else None
        return page_of([alert_body(budget, alert) for alert in page], following)

    _add_changes(router, guard, routes)
    return router


def _add_changes(router: APIRouter, guard: Guard, routes: BudgetRoutes) -> None:
    """Add the routes that make, change and end budgets."""
    Admin = Annotated[Principal, Depends(guard(KeyScope.BUDGETS))]  # noqa: N806 - a type

    @router.post(
        "",
        status_code=201,
        operation_id="budgets_create",
        openapi_extra=NEW_DOCUMENTED,
        responses={200: {"description": "The same `Idempotency-Key` and body came before: their budget."}},
    )
    async def create(principal: Admin, request: Request, response: Response) -> dict[str, object]:
        """Make a budget; it counts from now on. A repeated `Idempotency-Key` answers the same budget."""
        require_whole(principal)
        org = principal.org
        fields = await budget_fields(request, org, routes.keys)
        keyed = keyed_id(request, org, fields)
        budget = budget_from_fields(
            fields,
            budget_id=keyed or new_id(),
            created_at=routes.now().at,
            zone=await routes.reader.zone(org),
        )
        is_new = await routes.desk.change(
            org,
            partial(
                administration.create_budget,
                budget=budget,
                actor=principal.actor,
                is_keyed=keyed is not None,
            ),
        )
        response.status_code = 201 if is_new else 200
        return await routes.body(principal, budget.id)

    @router.patch("/{budget_id}", operation_id="budgets_change", openapi_extra=CHANGES_DOCUMENTED)
    async def change_budget(principal: Admin, budget_id: str, request: Request) -> dict[str, object]:
        """Change a budget's limit, name, mode, thresholds, zone or policies, for its running windows too."""
        require_whole(principal)
        found = id_from_text(budget_id, field="budget_id")
        how = changes_of(await fields_of(request))

        async def work(change: Change) -> Budget:
            return await administration.change_budget(change, found, how, actor=principal.actor)

        await routes.desk.change(principal.org, work)
        return await routes.body(principal, found)

    @router.delete("/{budget_id}", status_code=204, operation_id="budgets_delete")
    async def delete(principal: Admin, budget_id: str) -> Response:
        """End a budget; what was counted stays, and its windows close with their last hold."""
        require_whole(principal)
        found = id_from_text(budget_id, field="budget_id")

        async def work(change: Change) -> None:
            await administration.delete_budget(change, found, actor=principal.actor)

        await routes.desk.change(principal.org, work)
        return Response(status_code=204)


def _start_of(cursor: str | None) -> int:
    """Return the beginning of the window behind which a page begins.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    if cursor is None:
        return NEVER
    digits = cursor.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MICROS_MIN))):
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return int(cursor)
