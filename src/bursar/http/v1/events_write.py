"""POST /v1/events: record calls in Bursar's own form, all kinds of tokens apart.

    authenticate → read → decode (`capture.native`) → bind to the key → record durably → answer

The importers' way in. Good events of a body are recorded whatever the others are; each bad
one is named by its index and field. `?dry_run=true` decodes and prices, and records nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from bursar.capture.native import Fault, decode_events
from bursar.core.errors import InvalidInput
from bursar.core.money import text_from_nusd
from bursar.core.usage import Source, UsageEvent
from bursar.http.v1.ingest import BodyLimits
from bursar.http.v1.ingest_body import bound
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.intake import Intake, Receipt
from bursar.ingestion.ports import PriceBooks, Pricer
from bursar.web.edge import respond
from bursar.web.principal import Authenticator, Principal


class _Sorted(NamedTuple):
    """The events of a body that may be recorded, where each stood in it, and the faults."""

    events: list[UsageEvent]
    indexes: list[int]
    faults: list[Fault]


class EventsEndpoint:
    """A plain ASGI callable, like the ingest door."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: BodyLimits,
        intake: Intake,
        books: PriceBooks,
        clock: Callable[[], int],
        *,
        events_max: int,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._intake = intake
        self._books = books
        self._clock = clock
        self._events_max = events_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 201 when something was recorded, else 200."""
        principal = await self._authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        is_dry = _is_dry(scope)
        raw = await self._limits.read(scope, receive)
        decoded = decode_events(raw, now=self._clock(), events_max=self._events_max)
        found = _bind(decoded, principal)
        receipt = Receipt(None, len(found.events))
        if not is_dry:
            receipt = await self._intake.record(principal.org, found.events)
        pricer = await self._books.of(principal.org)
        body = {**_body(found, receipt, pricer), "dry_run": is_dry}
        await respond(send, 201 if body["recorded"] and not is_dry else 200, body)


def _is_dry(scope: Scope) -> bool:
    query: bytes = scope["query_string"]
    said = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run", ["false"])[-1]
    if said not in {"true", "false"}:
        raise InvalidInput("dry_run must be true or false", field="dry_run")
    return said == "true"


def _bind(
    decoded: tuple[Sequence[UsageEvent], Sequence[int], Sequence[Fault]], principal: Principal
) -> _Sorted:
    """Return the decoded events as the key may send them; what it may not becomes a fault."""
    events, indexes, faults = decoded
    found = _Sorted([], [], list(faults))
    for index, event in zip(indexes, events, strict=True):
        try:
            found.events.append(_bound(event, principal))
            found.indexes.append(index)
        except InvalidInput as error:
            found.faults.append(Fault(index, error.field or "", error.detail))
    return found


def _bound(event: UsageEvent, principal: Principal) -> UsageEvent:
    """Return the event with its key's number and bindings. Only an admin may name the source."""
    subject = event.subject._replace(
        agent=bound(event.subject.agent, principal.agent, "agent"),
        project=bound(event.subject.project, principal.project, "project"),
        api_key=principal.api_key,
    )
    source = event.source if KeyScope.ADMIN in principal.scopes else Source.NATIVE
    return msgspec.structs.replace(event, subject=subject, source=source)


def _body(found: _Sorted, receipt: Receipt, pricer: Pricer) -> dict[str, object]:
    """Return what became of each event, by its index in the body, and what the new ones cost."""
    left_out = {*receipt.duplicates, *receipt.conflicts, *receipt.quarantined}
    fresh = [event for position, event in enumerate(found.events) if position not in left_out]
    costs = [pricer.price(event).cost_nusd for event in fresh]
    faults = sorted(found.faults, key=lambda fault: fault.index)
    return {
        "recorded": len(fresh),
        "duplicates": len(receipt.duplicates),
        "conflicts": [found.indexes[position] for position in receipt.conflicts],
        "quarantined": [found.indexes[position] for position in receipt.quarantined],
        "rejected": faults,
        "tokens": sum(event.tokens_total for event in fresh),
        "cost_usd": text_from_nusd(sum(cost for cost in costs if cost is not None)),
        "unpriced": sum(cost is None for cost in costs),
        "batch": receipt.batch,
    }
