"""GET /v1/quarantine: events that could not be posted, with the reason.

They are in no total. The commonest reason is a sum beyond 64 bits, which means that the
caller sends costs or counts that cannot be.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from bursar.analytics.events import SetAside
from bursar.analytics.ports import QuarantineReader
from bursar.capture.native import encode_event
from bursar.core.errors import Denied
from bursar.core.ids import text_from_id
from bursar.core.time import text_from_micros
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

PAGE_MAX = 200


def quarantine_router(guard: Guard, quarantine: QuarantineReader) -> APIRouter:
    """Return the route over `quarantine`."""
    router = APIRouter(prefix="/v1/quarantine", tags=["events"])

    @router.get("", operation_id="quarantine_list")
    async def list_set_aside(
        principal: Annotated[Principal, Depends(guard(Scope.ADMIN))],
        cursor: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="`next_cursor` of the page before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Most events.")] = 50,
    ) -> dict[str, object]:
        """List what was set aside, newest first."""
        if principal.agent or principal.project:
            raise Denied("this key is bound to one agent or project; what was set aside is of all of them")
        found = await quarantine.quarantined(principal.org, before=cursor, limit=limit + 1)
        has_more = len(found) > limit
        page = found[:limit]
        return {
            "data": [_body(one) for one in page],
            "has_more": has_more,
            "next_cursor": page[-1].seq if has_more else None,
        }

    return router


def _body(one: SetAside) -> dict[str, object]:
    return {
        "id": text_from_id("evt", one.event.key),
        "received_at": text_from_micros(one.received_at),
        "reason": one.reason,
        "event": encode_event(one.event),
    }
