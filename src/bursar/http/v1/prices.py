"""/v1/prices: what an organisation pays in its own words, and why a call costs what it costs.

Every change makes a new price book for the next event; posted entries keep their price until
they are repriced (`/v1/models/reprice`). Not here: the form of bodies (`price_forms`,
`price_answers`), which price wins (`pricing`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Final, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from bursar.capture import checks
from bursar.core.errors import Denied, InvalidInput
from bursar.core.ids import Org, id_from_text
from bursar.core.time import Clock
from bursar.core.usage import ServiceTier
from bursar.http.v1.price_answers import explanation_body, override_body
from bursar.http.v1.price_forms import (
    EndPrice,
    Moment,
    NewPrice,
    Question,
    Start,
    body_bytes,
    documented,
    form_of,
)
from bursar.http.v1.report_query import offset_of
from bursar.identity.keys import Scope
from bursar.pricing.engine import PriceBook
from bursar.pricing.litellm_format import Skipped, overrides_from_litellm
from bursar.pricing.overrides import PriceOverride
from bursar.pricing.ports import PriceStore, StoredOverride
from bursar.web.guard import Guard
from bursar.web.principal import Principal

IMPORT_BYTES_MAX: Final = 16 * 2**20
"""Bytes of a price file; the public one with 3,000 models has about 1.5 MB."""

PAGE_MAX: Final = 1_000
_SHOWN_MAX: Final = 512
BookOf = Callable[[Org], Awaitable[PriceBook]]
Forget = Callable[[Org], None]


class ListParams(BaseModel):
    """The parameters of `GET /v1/prices`."""

    limit: int = Field(default=100, ge=1, le=PAGE_MAX, description="Most overrides.")
    cursor: str | None = Field(default=None, max_length=64, description="`next_cursor` of the page before.")


class ImportParams(BaseModel):
    """The parameters of `POST /v1/prices/import`."""

    model_config = ConfigDict(extra="forbid")

    valid_from: Start | None = Field(
        default=None, description="First moment of usage they are for; now by default, or `always`."
    )
    valid_to: Moment | None = Field(default=None, description="First moment they are no longer for.")
    dry_run: bool = Field(default=False, description="Say what would be imported, and change nothing.")


def prices_router(
    guard: Guard, price_store: PriceStore, book_of: BookOf, forget: Forget, clock: Clock
) -> APIRouter:
    """Return the routes; `forget` drops the organisation's price book after each change."""
    router = APIRouter(prefix="/v1/prices", tags=["prices"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type
    Admin = Annotated[Principal, Depends(guard(Scope.BUDGETS))]  # noqa: N806 - a type

    @router.get("", operation_id="prices_list")
    async def list_prices(principal: Reader, params: Annotated[ListParams, Query()]) -> dict[str, object]:
        """List the organisation's own prices, ended ones too, in the order in which they were put."""
        stored = await price_store.list(principal.org)
        first = offset_of(params.cursor)
        page, now = stored[first : first + params.limit], clock()
        has_more = first + len(page) < len(stored)
        return {
            "data": [override_body(one, now) for one in page],
            "has_more": has_more,
            "next_cursor": str(first + len(page)) if has_more else None,
        }

    @router.post("", status_code=201, operation_id="prices_put", openapi_extra=documented(NewPrice))
    async def put(principal: Admin, request: Request) -> dict[str, object]:
        """Set a price; one with the same pattern, tier and valid_from is replaced."""
        require_whole(principal)
        now = clock()
        override = (await form_of(request, NewPrice)).override(now)
        stored = await price_store.put(principal.org, override, at=now, actor=principal.actor)
        forget(principal.org)
        return override_body(stored, now)

    @router.post("/{price_id}/end", operation_id="prices_end", openapi_extra=documented(EndPrice))
    async def end(principal: Admin, price_id: str, request: Request) -> dict[str, object]:
        """End a price, now or at a given time; never later than it ends already."""
        require_whole(principal)
        now = clock()
        form = await form_of(request, EndPrice)
        stored = await price_store.end(
            principal.org,
            id_from_text(price_id, field="price_id"),
            valid_to=now if form.valid_to is None else form.valid_to,
            actor=principal.actor,
        )
        forget(principal.org)
        return override_body(stored, now)

    _add_import(router, guard, price_store, forget, clock)
    _add_explain(router, guard, book_of, clock)
    return router


def _add_import(
    router: APIRouter, guard: Guard, price_store: PriceStore, forget: Forget, clock: Clock
) -> None:
    """Add the route that takes over a whole price file."""
    Admin = Annotated[Principal, Depends(guard(Scope.BUDGETS))]  # noqa: N806 - a type

    @router.post("/import", operation_id="prices_import", openapi_extra=_FILE)
    async def import_file(
        principal: Admin, request: Request, params: Annotated[ImportParams, Query()]
    ) -> dict[str, object]:
        """Take over a price file in LiteLLM's format; say what was left out, and why."""
        require_whole(principal)
        now = clock()
        valid_from = now if params.valid_from is None else params.valid_from
        if params.valid_to is not None and params.valid_to <= valid_from:
            raise InvalidInput("valid_to must be after valid_from", field="valid_to")
        raw = await body_bytes(request, IMPORT_BYTES_MAX)
        found = await asyncio.to_thread(partial(_read_file, raw, valid_from, params.valid_to))
        changed = _changed(found.overrides, await price_store.list(principal.org))
        if changed and not params.dry_run:
            await price_store.put_all(principal.org, changed, at=now, actor=principal.actor)
            forget(principal.org)
        return {
            "imported": len(changed),
            "unchanged": len(found.overrides) - len(changed),
            "models": len({override.pattern for override in changed}),
            "dry_run": params.dry_run,
            "skipped": [skipped._asdict() for skipped in found.skipped],
        }


def _add_explain(router: APIRouter, guard: Guard, book_of: BookOf, clock: Clock) -> None:
    """Add both forms of the question why a call costs what it costs."""
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    async def answer(principal: Principal, question: Question) -> dict[str, object]:
        event = question.event(clock())
        return explanation_body(event, (await book_of(principal.org)).explain(event))

    @router.get("/explain", operation_id="prices_explain")
    async def explain(principal: Reader, question: Annotated[Question, Query()]) -> dict[str, object]:
        """Explain the price of a call: its rate card, each count × rate, and which cost counts."""
        return await answer(principal, question)

    @router.post("/explain", operation_id="prices_explain_body", openapi_extra=documented(Question))
    async def explain_body(principal: Reader, request: Request) -> dict[str, object]:
        """Explain the price of a call that is described in the body."""
        return await answer(principal, await form_of(request, Question))


def require_whole(principal: Principal) -> None:
    """Refuse a key that is bound to a part of the organisation.

    Raises:
        Denied: Prices and what has none concern every project and agent.
    """
    if principal.project or principal.agent:
        raise Denied("this key is bound to one project or agent; prices concern all of them")


class _File(NamedTuple):
    """What a price file comes to: one override a model and tier, and what was left out."""

    overrides: Sequence[PriceOverride]
    skipped: Sequence[Skipped]


def _read_file(raw: bytes, valid_from: int, valid_to: int | None) -> _File:
    """Read a file; where two entries are one model with different prices, the later one counts.

    Raises:
        InvalidInput: Not UTF-8, or not such a file.
    """
    try:
        text = checks.without_lone_surrogates(raw).decode()
    except UnicodeDecodeError:
        raise InvalidInput("the body must be UTF-8") from None
    found = overrides_from_litellm(text, valid_from=valid_from, valid_to=valid_to)
    skipped = [Skipped(entry[:_SHOWN_MAX], reason) for entry, reason in found.skipped]
    last: dict[tuple[str, ServiceTier | None], PriceOverride] = {}
    for override in found.overrides:
        try:
            key = (checks.name(override.pattern, "a model's name"), override.service_tier)
        except InvalidInput as refused:
            skipped.append(Skipped(override.pattern, refused.detail))
            continue
        earlier = last.pop(key, override)
        if earlier.lines != override.lines:
            reason = "the file names this model once more, with other prices, which were taken"
            skipped.append(Skipped(override.pattern, reason))
        last[key] = override
    return _File(list(last.values()), skipped)


def _changed(overrides: Sequence[PriceOverride], stored: Sequence[StoredOverride]) -> list[PriceOverride]:
    """Return the overrides that say something new, so that a file may be imported every day.

    What is in force at an override's beginning, with the same prices and the same end, says it already.
    """
    known: dict[tuple[str, ServiceTier | None], list[PriceOverride]] = {}
    for one in stored:
        pattern = one.override.pattern.strip().lower()
        known.setdefault((pattern, one.override.service_tier), []).append(one.override)
    return [override for override in overrides if not _is_in_force(override, known)]


def _is_in_force(
    override: PriceOverride, known: Mapping[tuple[str, ServiceTier | None], Sequence[PriceOverride]]
) -> bool:
    earlier = [
        one
        for one in known.get((override.pattern.strip().lower(), override.service_tier), ())
        if one.holds(override.valid_from)
    ]
    if not earlier:
        return False
    latest = max(earlier, key=lambda one: one.valid_from)
    return (
        latest.kind is override.kind
        and latest.lines == override.lines
        and latest.valid_to == override.valid_to
    )


_FILE = {
    "requestBody": {
        "description": "Model name → prices in US dollars per token, in LiteLLM's format.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
