"""`GET /v1/events` and `/v1/events/{id}`: the calls behind a total, and the price of each.

A list shows events as they stand. One event is shown with its rate card, unit by unit, and
with every entry that its corrections made, so that no figure is left unexplained.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from bursar.analytics.events import PAGE_MAX, Event, EventHistory, EventQuery, Place, Step
from bursar.analytics.explaining import UnitCost, unit_costs
from bursar.analytics.ports import EventReader, ReportReader
from bursar.analytics.query import Dim, Span
from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import Org, id_from_text, key_from_text, text_from_id, uuid_text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.time import MICROS_MAX, MICROS_MIN, text_from_micros
from bursar.core.usage import Billing
from bursar.core.zones import parse_zone, range_end, range_start
from bursar.http.v1.cursors import cursor_from, place_from
from bursar.http.v1.report_query import TEXT_MAX, RangeParams, answer, bound_filters, text
from bursar.identity.keys import Scope
from bursar.ledger.rows import (
    COUNTS_COMPUTED,
    COUNTS_NOTHING,
    COUNTS_REPORTED,
    FLAG_CLOCK_SUSPECT,
    FLAG_TIME_STAMPED,
    EntryRow,
    counts_of,
)
from bursar.web.guard import Guard
from bursar.web.principal import Principal

_ID = "evt"
_FILTERS = (Dim.AGENT, Dim.MODEL, Dim.RUN, Dim.PROJECT)
_BASIS = {COUNTS_NOTHING: "unpriced", COUNTS_COMPUTED: "computed", COUNTS_REPORTED: "reported"}


class EventParams(RangeParams):
    """The parameters of `GET /v1/events`. Without a range, all events are meant."""

    agent: str | None = text("Agent, by name or id.")
    model: str | None = text("Model, as it was sent.")
    run: str | None = text("Run id.")
    project: str | None = text("Project, by name or id.")
    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="Most events.")
    cursor: str | None = text("`next_cursor` of the page before.")

    def span(self, org_zone: str) -> Span:
        """Return the range that is asked for, open where an end is not given.

        Raises:
            InvalidInput: An unknown zone, a text that is no date or time, or an empty range.
        """
        zone = parse_zone(self.zone or org_zone, field="zone")
        starts_at = range_start(self.from_, zone) if self.from_ else MICROS_MIN
        ends_at = range_end(self.to, zone) if self.to else MICROS_MAX + 1
        if starts_at >= ends_at:
            raise InvalidInput("from must be before to", field="from")
        return Span(starts_at, ends_at)

    def filters(self, principal: Principal) -> dict[Dim, str]:
        """Return the filters that are set, and those that the key is bound to."""
        wanted = {dim: value for dim in _FILTERS if (value := getattr(self, dim.value))}
        return wanted | bound_filters(principal, wanted)


def events_router(guard: Guard, events: EventReader, reports: ReportReader) -> APIRouter:
    """Return the routes; `reports` gives the organisation's zone."""
    router = APIRouter(prefix="/v1/events", tags=["events"])
    Reader = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("", operation_id="events_list")
    async def list_events(principal: Reader, params: Annotated[EventParams, Query()]) -> Response:
        """List events, newest first, each as it stands after its corrections."""
        query = EventQuery(
            principal.org,
            params.span(await reports.zone(principal.org)),
            params.filters(principal),
            place_of(params.cursor),
            params.limit,
        )
        page = await events.page(query)
        following = cursor_of(page.events[-1].row) if page.has_more else None
        data = [_event(event) for event in page.events]
        return answer({"data": data, "has_more": page.has_more, "next_cursor": following})

    @router.get("/{event_id:path}", operation_id="events_get")
    async def get_event(
        principal: Reader,
        event_id: Annotated[
            str, Path(description="`evt_…`, a UUID, or the caller's own key.", max_length=TEXT_MAX)
        ],
    ) -> Response:
        """Explain one event: its figures, its price line by line, and all its entries."""
        history = await _found(events, principal.org, event_id)
        _check_bound(principal, history.event)
        body = _event(history.event) | {
            "price": _price(history),
            "entries": [_step(step) for step in history.steps],
        }
        if Scope.ADMIN in principal.scopes:
            body["prompt"] = history.prompt
        return answer(body)

    return router


async def _found(events: EventReader, org: Org, event_id: str) -> EventHistory:
    """Return the event that an id or a caller's key means.

    Raises:
        NotFound: The organisation has none of that name.
    """
    for key in _keys_of(event_id):
        history = await events.history(org, key)
        if history is not None:
            return history
    raise NotFound("no such event; give its id (evt_…) or the idempotency key it was sent with")


def _keys_of(event_id: str) -> list[bytes]:
    """Return the keys a text may mean: the caller's own key first, then an id of ours."""
    keys = [key_from_text(event_id)]
    try:
        keys.append(id_from_text(event_id))
    except InvalidInput:
        return keys
    return keys


def _check_bound(principal: Principal, event: Event) -> None:
    """Hide an event that the key's project or agent does not own.

    Raises:
        NotFound: As if it did not exist.
    """
    for dim, name in bound_filters(principal, {}).items():
        if event.labels[dim.value] != name:
            raise NotFound("no such event")


def _event(event: Event) -> dict[str, object]:
    """Return one event as it stands."""
    row = event.row
    event_id = text_from_id(_ID, row.key)
    return {
        "id": event_id,
        "occurred_at": text_from_micros(row.occurred_at),
        **event.labels,
        "session": uuid_text_from_id(row.session) if row.session else None,
        "hold": text_from_id("hold", row.hold) if row.hold else None,
        "status": "error" if row.is_error else "ok",
        "usage": counts_of(row),
        "duration_ms": row.duration_ms,
        **_cost(row),
        "billing": Billing(row.billing).name.lower(),
        "service_tier": row.service_tier.name.lower(),
        "source": row.source.name.lower(),
        "revision": event.revision,
        "time_stamped": bool(row.flags & FLAG_TIME_STAMPED),
        "clock_suspect": bool(row.flags & FLAG_CLOCK_SUSPECT),
        "attributes": msgspec.Raw(row.attributes.encode()) if row.attributes else {},
        "entries_url": f"/v1/events/{event_id}",
    }


def _cost(row: EntryRow) -> dict[str, object]:
    """Return what counts, why, and both costs; null is unknown, never zero."""
    return {
        "cost_usd": _money(row.cost_nusd),
        "cost_basis": _BASIS[row.counts],
        "reported_cost_usd": _money(row.reported_nusd),
        "computed_cost_usd": _money(row.computed_nusd),
    }


def _money(amount_nusd: int | None) -> str | None:
    return None if amount_nusd is None else text_from_nusd(amount_nusd)


def _price(history: EventHistory) -> dict[str, object] | None:
    """Return how the computed cost came about, None where no card was known."""
    card = history.card
    if card is None:
        return None
    return {
        "card": card.digest.hex(),
        "provider": card.provider,
        "model": card.model,
        "service_tier": card.service_tier.name.lower(),
        "origin": card.origin,
        "lines": [_line(cost) for cost in unit_costs(history.event.row, card)],
        "computed_cost_usd": _money(history.event.row.computed_nusd),
    }


def _line(cost: UnitCost) -> dict[str, object]:
    """Return one factor of the sum; its amount is exact, before the one rounding up."""
    return {
        "unit": cost.unit,
        "units": cost.units,
        "usd_per_million": cost.usd_per_million,
        "from_context_tokens": cost.from_context_tokens,
        "amount_usd": cost.amount_usd,
    }


def _step(step: Step) -> dict[str, object]:
    """Return one entry: what it posted (`post`) or took back (`reverse`)."""
    return {
        "seq": step.seq,
        "kind": "post" if step.sign > 0 else "reverse",
        "reason": step.reason,
        "revision": step.revision,
        "batch": step.row.batch,
        "occurred_at": text_from_micros(step.row.occurred_at),
        "usage": counts_of(step.row),
        **_cost(step.row),
    }


def cursor_of(row: EntryRow) -> str:
    """Return the cursor of the page that follows an event."""
    return cursor_from(row.occurred_at, row.key)


def place_of(cursor: str | None) -> Place | None:
    """Return the place that a cursor names.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    return Place(*place_from(cursor)) if cursor else None
