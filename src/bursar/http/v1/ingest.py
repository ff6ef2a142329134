"""POST /v1/ingest: the AgentKavach client's door, and the fastest one.

    authenticate → read and inflate → decode → record durably → answer 202

The client behind it throws a batch away on any status but 200, 202 and 429, so everything
that is our own trouble (a full disk, a lost database, overload) answers 429 `burst` with
`Retry-After`, and a batch with bad items is recorded as far as it is good before it is
answered 422. The same client stops its agent on a 429 with one of three reasons: how a
budget that is used up, or a kill, reaches it (`stops`).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from bursar.core.errors import AppError, InvalidInput, TooLarge, Unavailable
from bursar.core.time import text_from_micros
from bursar.directory.organisations import Organisation
from bursar.http.v1.ingest_body import Decoded, IngestDecoder, ItemError
from bursar.http.v1.stops import Verdict, headers_of, stopped_body, verdict_of
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.admission import ALL, Admission, Admitted, Refusal
from bursar.ingestion.intake import Intake, Receipt
from bursar.web.bodies import read_body
from bursar.web.edge import respond
from bursar.web.principal import Authenticator
from bursar.web.problems import RETRY_AFTER_S, problem

Reader = Callable[[Receive, bytes], Awaitable[bytes]]


class BodyLimits:
    """Reads bodies within the configured caps."""

    def __init__(self, *, wire_bytes_max: int, bytes_max: int) -> None:
        self._wire_bytes_max = wire_bytes_max
        self._bytes_max = bytes_max

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Return the request's inflated body."""
        encoding = b""
        for name, value in scope["headers"]:
            if name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"content-length" and value.isdigit() and int(value[:20]) > self._wire_bytes_max:
                raise TooLarge(f"the body is larger than {self._wire_bytes_max} bytes; send smaller batches")
        return await read_body(
            receive, encoding, wire_bytes_max=self._wire_bytes_max, bytes_max=self._bytes_max
        )


class IngestEndpoint:
    """A plain ASGI callable: no framework between the socket and the ledger."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: BodyLimits,
        decoder: IngestDecoder,
        intake: Intake,
        clock: Callable[[], int],
        *,
        admission: Admission,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._decoder = decoder
        self._intake = intake
        self._clock = clock
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._serve(scope, receive, send)
        except Unavailable as error:
            await respond_burst(send, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = await self._authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        organisation = await self._admission.of(principal.org)
        raw = await self._limits.read(scope, receive)
        try:
            decoded = self._decoder.decode(raw, principal, self._clock())
        except InvalidInput as error:
            await respond(send, 422, _refused([ItemError(-1, error.field or "", error.detail)], 0, 1))
            return
        count = len(decoded.events)
        decoded, admitted = await self._admitted(organisation, decoded)
        receipt = Receipt(None, 0)
        try:
            receipt = await self._intake.record(principal.org, decoded.events)
        finally:
            if organisation is not None:
                fresh = receipt.recorded - len(receipt.duplicates)
                self._admission.returned(principal.org, len(decoded.events) - fresh)
        outcome = _Outcome(decoded, receipt, admitted, count - len(decoded.events))
        await _answer(send, outcome, self._clock())

    async def _admitted(
        self, organisation: Organisation | None, decoded: Decoded
    ) -> tuple[Decoded, Admitted]:
        """Return what of a body is recorded."""
        if organisation is None:
            return decoded, ALL
        admitted = await self._admission.admit(organisation, decoded.events)
        if admitted.positions is None:
            return decoded, admitted
        events = [decoded.events[place] for place in admitted.positions]
        positions = [decoded.positions[place] for place in admitted.positions]
        return Decoded(events, positions, decoded.errors), admitted


class _Outcome(NamedTuple):
    """What became of a body: what was recorded of it, and how much was dropped for a quota."""

    decoded: Decoded
    receipt: Receipt
    admitted: Admitted
    dropped: int

    @property
    def rejected(self) -> int:
        """How many of its items were not recorded."""
        lost = len(self.receipt.conflicts) + len(self.receipt.quarantined)
        return len(self.decoded.errors) + lost + self.dropped


async def _answer(send: Send, outcome: _Outcome, now: int) -> None:
    """Tell the sender to go on, to come again, or to stop."""
    decoded, receipt, admitted, _ = outcome
    verdict = verdict_of(receipt.seen, decoded.events)
    headers = headers_of(verdict, now)
    if admitted.is_whole and admitted.refusal is not None:
        if admitted.refusal.retry_after_s is not None:
            headers = (*headers, (b"retry-after", str(admitted.refusal.retry_after_s).encode()))
        await respond(send, 429, _over_quota(outcome, admitted.refusal), headers=headers)
    elif verdict.code is not None:
        body = stopped_body(verdict, recorded=receipt.recorded, rejected=outcome.rejected)
        await respond(send, 429, body, headers=headers)
    elif decoded.errors:
        body = _refused(decoded.errors, receipt.recorded, outcome.rejected)
        await respond(send, 422, body, headers=headers)
    else:
        await respond(send, 202, _accepted(outcome, verdict), headers=headers)


async def respond_burst(send: Send, error: AppError) -> None:
    """Answer our own trouble as the one status that the published clients keep a batch for."""
    body = problem(429, error.code, error.detail, {"reason": "burst"})
    await respond(send, 429, body, headers=((b"retry-after", str(RETRY_AFTER_S).encode()),))


def _accepted(outcome: _Outcome, verdict: Verdict) -> dict[str, object]:
    """Return the 202 body: the reference's four fields, and what else is worth knowing."""
    decoded, receipt, admitted, _ = outcome
    rejected = [(index, "idempotency_conflict") for index in receipt.conflicts]
    rejected += [(index, "amount_overflow") for index in receipt.quarantined]
    body: dict[str, object] = {
        "accepted": receipt.recorded,
        "rejected": outcome.rejected,
        "mode": "direct",
        "rejected_agents": [*verdict.stopped, *admitted.rejected_agents],
        "duplicates": len(receipt.duplicates),
        "batch": receipt.batch,
    }
    if verdict.standing is not None:
        body["budget_state"] = verdict.standing.state
    if rejected:
        body["rejected_items"] = [
            {"index": decoded.positions[index], "code": code} for index, code in sorted(rejected)
        ]
    if admitted.refusal is not None:
        body["reason"], body["detail"] = admitted.refusal.reason, admitted.refusal.detail
        body |= admitted.refusal.more
    return body


def _over_quota(outcome: _Outcome, refusal: Refusal) -> dict[str, object]:
    """Return the 429 body of a request that is beyond a quota, with what was recorded of it."""
    recorded = outcome.receipt.recorded
    return problem(
        429,
        refusal.reason,
        refusal.detail,
        {
            "reason": refusal.reason,
            "rejected_agents": list(outcome.admitted.rejected_agents),
            "resume_at": None if refusal.resume_at is None else text_from_micros(refusal.resume_at),
            "recorded": recorded,
            "accepted": recorded,
            "rejected": outcome.rejected,
            **refusal.more,
        },
    )


def _refused(errors: Sequence[ItemError], accepted: int, rejected: int) -> dict[str, object]:
    """Return the 422 body: FastAPI's list of errors, and how much was recorded all the same."""
    detail = [{"loc": _location(error), "msg": error.message, "type": "value_error"} for error in errors]
    counts = {"accepted": accepted, "rejected": rejected}
    body = problem(422, "invalid_input", detail, counts)
    first = errors[0]
    sentence = first.message if first.position < 0 else f"events[{first.position}]: {first.message}"
    return {**body, "message": sentence, "error": sentence}


def _location(error: ItemError) -> list[str | int]:
    """Return FastAPI's `loc`: body, events, index, field; a fault of the whole has no index."""
    path: list[str | int] = ["body"] if error.position < 0 else ["body", "events", error.position]
    return [*path, error.field] if error.field else path
