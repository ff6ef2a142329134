"""POST /v1/leases, and /report and /return on one: a slice of the budgets, spent without asking.

    acquire:  decode → estimate → desk → commit → answer
    report:   decode → intake (the journal's calls, as events) → desk (renew, recall, stop) → answer

A lease is a hold, so its refusals are those of holds, and `GET /v1/holds/{id}` shows it. The
calls are in the ledger before the desk is asked: a report that comes again changes nothing.

Not here: bodies (`lease_body`), answers (`lease_answers`), decisions (`budgets.lease`).
"""

from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from bursar.budgets.amounts import NOTHING
from bursar.budgets.hold import Hold
from bursar.budgets.lease import Demand, LeaseRequest
from bursar.budgets.lease import Report as Heartbeat
from bursar.budgets.refusal import Refused
from bursar.core.errors import InvalidInput, NotFound, TooLarge
from bursar.core.ids import Org, id_from_text, new_id
from bursar.enforcement.leasing import LeaseSeen, SeeingLease, rate_by_calls, rate_by_cost
from bursar.enforcement.questions import Acquire, Report
from bursar.http.v1.hold_answers import money_headers_of, stopped_problem
from bursar.http.v1.holds import HoldDoors, Refusals, key_header
from bursar.http.v1.lease_answers import lease_body, report_body
from bursar.http.v1.lease_body import Heard, LeaseDecoder, Needs
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.intake import Receipt
from bursar.web.edge import respond
from bursar.web.principal import Principal

REPORT_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one body: a thousand calls take some 300 KB."""

_PATH_PARTS = 5


class LeasesEndpoint:
    """POST /v1/leases."""

    def __init__(self, doors: HoldDoors) -> None:
        self._doors = doors
        self._decoder = LeaseDecoder()
        self._refusals = Refusals(doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 201 a new lease, 200 the one that stands, 402 no room, 403 stopped."""
        doors = self._doors
        principal, raw = await doors.read(scope, receive)
        now = doors.clock()
        asked = self._decoder.acquisition(raw, key_header(scope["headers"]), principal, now)
        demand, max_output = await _demand(doors, principal.org, asked.needs)
        call = asked.needs.call
        request = LeaseRequest(
            hold_id=new_id(),
            key=call.key,
            digest=asked.digest,
            call=call.call,
            nonce=asked.nonce,
            demand=demand,
            ttl=asked.ttl,
            deadline=call.deadline,
            grace=call.grace,
            knows_tokens=call.usage is not None,
        )
        answer = await doors.desk.ask(principal.org, SeeingLease(Acquire(request)))
        if isinstance(answer, LeaseSeen):
            budgets = await doors.budgets.of(principal.org, answer.windows)
            body = lease_body(answer, budgets, key_text=call.key_text, max_output_tokens=max_output)
            headers = money_headers_of(answer.windows, budgets, now)
            await respond(send, 201 if answer.is_new else 200, body, headers=headers)
        elif isinstance(answer, Refused):
            body, headers = await self._refusals.exceeded(principal, answer)
            await respond(send, 402, body, headers=headers)
        else:
            await respond(send, 403, stopped_problem(answer))


class LeaseEndpoint:
    """POST /v1/leases/{id}/report and /return."""

    def __init__(self, doors: HoldDoors) -> None:
        self._doors = doors
        self._decoder = LeaseDecoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; 200, or 409 `lease_shared` where another process spends it."""
        doors = self._doors
        principal = await doors.authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        lease_id, is_final = _named(scope["path"])
        raw = await doors.limits.read(scope, receive)
        if len(raw) > REPORT_BYTES_MAX:
            raise TooLarge(f"the body has at most {REPORT_BYTES_MAX} bytes; report fewer entries at once")
        lease = await self._lease(principal, lease_id)
        now = doors.clock()
        heard = self._decoder.report(raw, lease, principal, now)
        receipt = await self._record(principal.org, lease, heard)
        demand = None
        if heard.needs is not None and not is_final:
            demand, _ = await _demand(doors, principal.org, heard.needs)
        sent = Heartbeat(
            nonce=heard.nonce,
            number=heard.number,
            give_back=heard.give_back,
            demand=demand,
            is_final=is_final,
        )
        answer = await doors.desk.ask(principal.org, SeeingLease(Report(lease_id, sent)))
        assert isinstance(answer, LeaseSeen)  # noqa: S101 - a report is never refused
        budgets = await doors.budgets.of(principal.org, answer.windows)
        body = report_body(answer, budgets, max(heard.sequences, default=0))
        body |= _rejected(heard, receipt)
        await respond(send, 200, body, headers=money_headers_of(answer.windows, budgets, now))

    async def _lease(self, principal: Principal, lease_id: bytes) -> Hold:
        """Return the lease; its names and its process never change, so looking beforehand is enough.

        Raises:
            NotFound: There is none, or it is another agent's or project's than the key's.
        """
        shown = await self._doors.reader.get(principal.org, lease_id)
        if shown is None or shown.hold.lease is None:
            raise NotFound("there is no such lease", field="id")
        call = shown.hold.call
        if principal.agent not in {"", call.agent} or principal.project not in {"", call.project}:
            raise NotFound("there is no such lease", field="id")
        return shown.hold

    async def _record(self, org: Org, lease: Hold, heard: Heard) -> Receipt:
        """Record the calls of a report; those of a second process are spend that nobody held for."""
        events = heard.events
        if lease.lease is not None and heard.nonce != lease.lease.nonce:
            events = [msgspec.structs.replace(event, hold=None) for event in events]
        return await self._doors.intake.record(org, events)


async def _demand(doors: HoldDoors, org: Org, needs: Needs) -> tuple[Demand, int | None]:
    """Return what decides a lease's size, and the output that one worst case pays for."""
    worst = await doors.worst(org, needs.call)
    rate = NOTHING
    if needs.rate is not None:
        kind, amount = needs.rate
        by = rate_by_cost if kind == "cost" else rate_by_calls
        rate = by(worst.amounts, amount)
    return Demand(worst.amounts, rate), worst.max_output_tokens


def _named(path: str) -> tuple[bytes, bool]:
    """Return the lease, and whether it is returned.

    Raises:
        NotFound: No such route, or nothing that could be a lease's id.
    """
    parts = path.split("/")
    if len(parts) != _PATH_PARTS or parts[-1] not in {"report", "return"}:
        raise NotFound("no such route: a lease takes report and return")
    try:
        return id_from_text(parts[-2]), parts[-1] == "return"
    except InvalidInput:
        raise NotFound("there is no such lease", field="id") from None


def _rejected(heard: Heard, receipt: Receipt) -> dict[str, object]:
    """Return which entries were not counted, by their places in the journal: sending again cures none."""
    found: dict[str, object] = {}
    if receipt.conflicts:
        found["conflicts"] = [heard.sequences[position] for position in receipt.conflicts]
    if receipt.quarantined:
        found["quarantined"] = [heard.sequences[position] for position in receipt.quarantined]
    return found
