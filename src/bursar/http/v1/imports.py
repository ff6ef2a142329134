"""/v1/imports/cursors/{source}: where an importer remembers which files it has read.

A cursor is the importer's own JSON object; nothing here looks into it. It only saves work:
events carry keys that make a second import harmless.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response

from bursar.capture import checks
from bursar.capture.ports import CursorStore
from bursar.core.errors import InvalidInput
from bursar.http.v1.ingest import BodyLimits
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

Source = Annotated[
    str, Path(pattern="^[a-z0-9_]{1,64}$", description="What is imported: `claude_code`, `table`.")
]


def imports_router(guard: Guard, cursors: CursorStore, limits: BodyLimits) -> APIRouter:
    """Return the routes over `cursors`; both ask for the scope admin."""
    router = APIRouter(prefix="/v1/imports/cursors", tags=["capture"])
    Admin = Annotated[Principal, Depends(guard(Scope.ADMIN))]  # noqa: N806 - a type

    @router.get("/{source}", operation_id="import_cursors_get")
    async def get_cursor(source: Source, principal: Admin) -> Response:
        """Give the cursor that was kept last, null when none was."""
        kept = await cursors.get_cursor(principal.org, source)
        body = {"source": source, "cursor": None if kept is None else msgspec.Raw(kept)}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @router.put("/{source}", status_code=204, operation_id="import_cursors_put")
    async def put_cursor(source: Source, principal: Admin, request: Request) -> Response:
        """Keep a JSON object as the cursor of a source, in place of what was there."""
        raw = await limits.read(request.scope, request.receive)
        if not isinstance(checks.decode_json(raw), dict):
            raise InvalidInput("a cursor must be a JSON object")
        await cursors.put_cursor(principal.org, source, raw)
        return Response(status_code=204)

    return router
