"""GET /v1/audit and /v1/audit/export: who changed what in this organisation, newest first.

The export reads page by page while it is sent, so that its length costs no memory; what is written
meanwhile is not in it. A cell of the table that a spreadsheet would take for a formula gets an apostrophe.
"""

import csv
import io
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from bursar.core.errors import Denied
from bursar.core.ids import Org
from bursar.core.time import micros_from_text, text_from_micros
from bursar.identity.audit_log import AuditQuery, AuditReader, LoggedEntry
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

PAGE_MAX = 200
EXPORT_PAGE = 1_000
_SEQ_MAX = 2**63 - 1
_COLUMNS = ("seq", "at", "actor", "action", "target", "details")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_encode = msgspec.json.Encoder().encode


class AuditFilters(BaseModel):
    """Which entries."""

    model_config = ConfigDict(extra="ignore")

    actor: str = Field(default="", max_length=256, description="Exactly who: `user:usr_…`, `operator`, ….")
    action: str = Field(default="", max_length=256, description="`key.revoke`, or `key.*` for all of keys.")
    since: str | None = Field(default=None, alias="from", description="RFC 3339; from then on.")
    until: str | None = Field(default=None, alias="to", description="RFC 3339; before then.")

    def query(self) -> AuditQuery:
        """Return the filters as the log takes them.

        Raises:
            InvalidInput: A time that is none.
        """
        since = None if self.since is None else micros_from_text(self.since, field="from")
        until = None if self.until is None else micros_from_text(self.until, field="to")
        return AuditQuery(self.actor, self.action, since, until)


class AuditParams(AuditFilters):
    """Which page of them."""

    cursor: int | None = Field(
        default=None, ge=1, le=_SEQ_MAX, description="`next_cursor` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most entries.")


class ExportFormat(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"


class ExportParams(AuditFilters):
    """What to export, and how."""

    format: ExportFormat = Field(default=ExportFormat.CSV, description="csv with a head line, or jsonl.")


def audit_router(guard: Guard, audit: AuditReader) -> APIRouter:
    """Return the routes over `audit`."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"])
    Admin = Annotated[Principal, Depends(guard(Scope.ADMIN))]  # noqa: N806 - a type

    @router.get("", operation_id="audit_list")
    async def list_entries(principal: Admin, params: Annotated[AuditParams, Query()]) -> dict[str, object]:
        """List what was changed by whom, newest first."""
        _require_whole(principal)
        found = await audit.entries(
            principal.org, params.query(), before=params.cursor, limit=params.limit + 1
        )
        page = found[: params.limit]
        has_more = len(found) > params.limit
        following = str(page[-1].seq) if has_more else None
        return {"data": [_body(one) for one in page], "has_more": has_more, "next_cursor": following}

    @router.get("/export", operation_id="audit_export", response_class=StreamingResponse)
    async def export(principal: Admin, params: Annotated[ExportParams, Query()]) -> StreamingResponse:
        """Give every entry that fits, newest first, as CSV or as one JSON document a line."""
        _require_whole(principal)
        query = params.query()
        is_csv = params.format is ExportFormat.CSV
        kind = "text/csv; charset=utf-8" if is_csv else "application/x-ndjson"
        headers = {"Content-Disposition": f'attachment; filename="audit.{params.format.value}"'}
        lines = _csv if is_csv else _jsonl
        return StreamingResponse(lines(_all(audit, principal.org, query)), media_type=kind, headers=headers)

    return router


def _require_whole(principal: Principal) -> None:
    """Refuse a key that is bound to a part of the organisation: the log is about all of it."""
    if principal.agent or principal.project:
        raise Denied("a key bound to an agent or a project does not see the audit log")


async def _all(audit: AuditReader, org: Org, query: AuditQuery) -> AsyncIterator[list[LoggedEntry]]:
    before: int | None = None
    while True:
        page = await audit.entries(org, query, before=before, limit=EXPORT_PAGE)
        yield page
        if len(page) < EXPORT_PAGE:
            return
        before = page[-1].seq


async def _jsonl(pages: AsyncIterator[list[LoggedEntry]]) -> AsyncIterator[bytes]:
    async for page in pages:
        yield b"".join(_encode(_body(one)) + b"\n" for one in page)


async def _csv(pages: AsyncIterator[list[LoggedEntry]]) -> AsyncIterator[bytes]:
    yield _rows([_COLUMNS])
    async for page in pages:
        yield _rows([_cells(one) for one in page])


def _rows(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cells(one: LoggedEntry) -> tuple[str, ...]:
    entry = one.entry
    details = "" if entry.details is None else _encode(entry.details).decode()
    cells = (text_from_micros(entry.at), entry.actor, entry.action, entry.target, details)
    return (str(one.seq), *(f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells))


def _body(one: LoggedEntry) -> dict[str, object]:
    entry = one.entry
    return {
        "seq": one.seq,
        "at": text_from_micros(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "details": entry.details,
    }
