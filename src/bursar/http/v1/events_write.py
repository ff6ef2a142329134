"""POST /v1/events: record calls in Bursar's own form, all kinds of tokens apart.

    authenticate → read → decode (`capture.native`) → bind to the key → record durably → answer

The importers' way in. Good events of a body are recorded whatever the others are; each bad
one is named by its index and field. An event with `hold_id` settles that hold. `?dry_run=true`
decodes and prices, and records nothing.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from bursar.budgets.batch import SettledAnswer
from bursar.capture.native import Fault, decode_events
from bursar.core.errors import AppError, InvalidInput
from bursar.core.ids import text_from_id
from bursar.core.money import text_from_nusd
from bursar.core.usage import Source, UsageEvent
from bursar.http.v1.ingest import BodyLimits
from bursar.http.v1.ingest_body import bound
from bursar.http.v1.stops import headers_of, verdict_of
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.admission import Admission
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
        admission: Admission,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._intake = intake
        self._books = books
        self._clock = clock
        self._events_max = events_max
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 201 when something was recorded, else 200."""
        principal = await self._authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        await self._admission.require_open(principal.org)
        is_dry = _is_dry(scope)
        raw = await self._limits.read(scope, receive)
        decoded = decode_events(raw, now=self._clock(), events_max=self._events_max)
        found = _bind(decoded, principal)
        receipt = Receipt(None, len(found.events))
        if not is_dry:
            receipt = await self._intake.record(principal.org, found.events)
        pricer = await self._books.of(principal.org)
        body = {**_body(found, receipt, pricer), "dry_run": is_dry}
        verdict = verdict_of(receipt.seen, found.events)
        if verdict.standing is not None:
            body |= {"budget_state": verdict.standing.state, "stopped_agents": list(verdict.stopped)}
        headers = headers_of(verdict, self._clock())
        await respond(send, 201 if body["recorded"] and not is_dry else 200, body, headers=headers)


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


def _cost(event: UsageEvent, answer: SettledAnswer | AppError | None, pricer: Pricer) -> int | None:
    """Return what counts of an event; one with a hold may have had its names from there."""
    if isinstance(answer, SettledAnswer) and answer.hold.settled is not None:
        return answer.hold.settled.cost_nusd
    return pricer.price(event).cost_nusd


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
    refused = {at: one for at, one in receipt.settled.items() if isinstance(one, AppError)}
    left_out = {*receipt.duplicates, *receipt.conflicts, *receipt.quarantined, *refused}
    places = [position for position in range(len(found.events)) if position not in left_out]
    fresh = [found.events[position] for position in places]
    costs = [_cost(found.events[position], receipt.settled.get(position), pricer) for position in places]
    unsettled = [Fault(found.indexes[at], one.field or "hold_id", one.detail) for at, one in refused.items()]
    faults = sorted([*found.faults, *unsettled], key=lambda fault: fault.index)
    body = {
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
    if receipt.settled:
        body["settled"] = [
            {
                "index": found.indexes[at],
                "hold_id": text_from_id("hold", one.hold.id),
                "outcome": one.outcome,
                "state": one.hold.state,
            }
            for at, one in sorted(receipt.settled.items(), key=itemgetter(0))
            if isinstance(one, SettledAnswer)
        ]
    return body
