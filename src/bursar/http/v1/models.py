"""/v1/models and /v1/pricing: what models cost, which have no price, and pricing them later.

Without a credential the two lists show list prices, with one the organisation's own. They are
in the vocabularies of AI Cost Guard and AgentKavach, whose clients expect JSON numbers; every
digit of a price is kept. Not here: how the lists are made and kept (`price_lists`).
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bursar.capture import checks
from bursar.core.money import text_from_nusd
from bursar.core.time import Clock, text_from_micros
from bursar.http.v1.price_forms import documented, form_of
from bursar.http.v1.price_lists import Listing, PriceLists
from bursar.http.v1.prices import BookOf, require_whole
from bursar.identity.keys import Scope
from bursar.ingestion.reprice import (
    BEGINNING,
    RepriceQuery,
    Repricer,
    place_from_text,
    text_from_place,
)
from bursar.pricing.aliases import canonical
from bursar.pricing.engine import PriceBook
from bursar.pricing.ports import PriceStore, UnpricedModel
from bursar.web.guard import Guard
from bursar.web.principal import Principal

KEPT_SECONDS: Final = 300
"""How long anyone may keep the public list. One's own is asked for anew, by its tag."""

UNPRICED_MAX: Final = 1_000


class UnpricedParams(BaseModel):
    """The parameters of `GET /v1/models/unpriced`."""

    limit: int = Field(default=100, ge=1, le=UNPRICED_MAX, description="Most models.")


class RepriceForm(BaseModel):
    """Which unpriced usage to price."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, max_length=256, description="Only this model, as it was sent.")
    provider: str | None = Field(default=None, max_length=256, description="Only this provider.")
    dry_run: bool = Field(default=False, description="Say what would happen, and change nothing.")
    cursor: str | None = Field(default=None, max_length=128, description="`next_cursor` of the call before.")

    def query(self, principal: Principal) -> RepriceQuery:
        """Return what is asked for.

        Raises:
            InvalidInput: A name with control characters, or a foreign cursor.
        """
        return RepriceQuery(
            org=principal.org,
            actor=principal.actor,
            model=None if self.model is None else checks.name(self.model, "model"),
            provider=None if self.provider is None else checks.optional_name(self.provider, "provider"),
            after=BEGINNING if self.cursor is None else place_from_text(self.cursor),
            dry_run=self.dry_run,
        )


def models_router(
    guard: Guard,
    lists: PriceLists,
    price_store: PriceStore,
    repricer: Repricer,
    *,
    book_of: BookOf,
    clock: Clock,
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["models"])
    Anyone = Annotated[Principal | None, Depends(guard.optional)]  # noqa: N806 - a type
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type
    Admin = Annotated[Principal, Depends(guard(Scope.ADMIN))]  # noqa: N806 - a type

    @router.get("/v1/models", operation_id="models_list")
    async def models(request: Request, caller: Anyone) -> Response:
        """List models with their present prices, US dollars per million tokens; null is unknown."""
        shown = await lists.of(caller.org if caller else None)
        return _answer(request, shown.models, is_public=caller is None)

    @router.get("/v1/pricing", operation_id="pricing")
    async def pricing(request: Request, caller: Anyone) -> Response:
        """Give prices by model name, per thousand and per million tokens, and further names."""
        shown = await lists.of(caller.org if caller else None)
        return _answer(request, shown.pricing, is_public=caller is None)

    @router.get("/v1/models/unpriced", operation_id="models_unpriced")
    async def unpriced(principal: Reader, params: Annotated[UnpricedParams, Query()]) -> dict[str, object]:
        """List models with usage that has no cost, the most requests first, and what to do."""
        require_whole(principal)
        found = await price_store.unpriced(principal.org, limit=params.limit + 1)
        book = await book_of(principal.org)
        return {
            "data": [_unpriced(one, book, clock()) for one in found[: params.limit]],
            "has_more": len(found) > params.limit,
            "next_cursor": None,
        }

    @router.post("/v1/models/reprice", operation_id="models_reprice", openapi_extra=documented(RepriceForm))
    async def reprice(principal: Admin, request: Request) -> dict[str, object]:
        """Give unpriced usage the price that is known now; what is priced never changes."""
        require_whole(principal)
        query = (await form_of(request, RepriceForm)).query(principal)
        # What was priced a moment ago, perhaps by another process, is priced by it.
        await book_of(principal.org)
        done = await repricer.reprice(query)
        return {
            "events": done.events,
            "repriced": done.repriced,
            "still_unpriced": done.unpriced,
            "refused": done.refused,
            "cost_added_usd": text_from_nusd(done.added_nusd),
            "dry_run": query.dry_run,
            "has_more": done.after is not None,
            "next_cursor": None if done.after is None else text_from_place(done.after),
        }

    return router


def _answer(request: Request, listed: Listing, *, is_public: bool) -> Response:
    """Return the list, or 304 to a client that has it already."""
    headers = {
        "ETag": listed.etag,
        "Cache-Control": f"public, max-age={KEPT_SECONDS}" if is_public else "private, no-cache",
        "Vary": "Authorization, X-API-Key",
    }
    if listed.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(listed.body, media_type="application/json", headers=headers)


def _unpriced(usage: UnpricedModel, book: PriceBook, now: int) -> dict[str, object]:
    return {
        "provider": usage.provider,
        "model": usage.model,
        "requests": usage.requests,
        "tokens": usage.tokens,
        "first_at": text_from_micros(usage.first_at),
        "last_at": text_from_micros(usage.last_at),
        "what_to_do": _advice(usage, book, now),
    }


def _advice(usage: UnpricedModel, book: PriceBook, now: int) -> str:
    """Return in a sentence or two how this usage gets its price."""
    name = f"{usage.provider}/{usage.model}" if usage.provider else usage.model
    put = f"Set a price for {name!r} with POST /v1/prices, valid from before the first usage"
    if book.card_at(usage.provider, usage.model, usage.last_at) is not None:
        return (
            "A price is known for the last of these calls: POST /v1/models/reprice takes it over. What stays "
            f"unpriced used a unit, a service tier or a time without a price. {put}, and reprice."
        )
    if book.card_at(usage.provider, usage.model, now) is not None:
        return f"A price is known for calls made now, not for those of that time. {put}, and reprice."
    if canonical(usage.provider, usage.model).listed:
        return f"The model is listed without a price that these calls can use. {put}, and reprice."
    return f"The model is on no price list. {put}, and reprice."
