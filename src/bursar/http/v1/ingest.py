"""POST /v1/ingest: the AgentKavach client's door, and the fastest one.

    authenticate → read and inflate → decode → record durably → answer 202

The client behind it throws a batch away on any status but 200, 202 and 429, so everything
that is our own trouble (a full disk, shutdown, overload) answers 429 `burst` with
`Retry-After`, and a batch with bad items is recorded as far as it is good before it is
answered 422. The same client stops its agent on a 429 with one of three reasons: how a
budget that is used up, or a kill, reaches it (`stops`).
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import Receive, Scope, Send

from bursar.core.errors import AppError, InvalidInput, TooLarge, Unavailable
from bursar.http.v1.ingest_body import Decoded, IngestDecoder, ItemError
from bursar.http.v1.stops import Verdict, headers_of, stopped_body, verdict_of
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.intake import Intake, Receipt
from bursar.web.bodies import read_body
from bursar.web.edge import respond
from bursar.web.principal import Authenticator
from bursar.web.problems import problem

RETRY_AFTER_S = 2
"""What a caller is asked to wait when we cannot write; its client clamps to 1–10 anyway."""

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
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._decoder = decoder
        self._intake = intake
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        principal = await self._authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        raw = await self._limits.read(scope, receive)
        try:
            decoded = self._decoder.decode(raw, principal, self._clock())
        except InvalidInput as error:
            await respond(send, 422, _refused([ItemError(-1, error.field or "", error.detail)], 0, 1))
            return
        try:
            receipt = await self._intake.record(principal.org, decoded.events)
        except Unavailable as error:
            await respond_burst(send, error)
            return
        rejected = len(decoded.errors) + len(receipt.conflicts) + len(receipt.quarantined)
        verdict = verdict_of(receipt.seen, decoded.events)
        headers = headers_of(verdict, self._clock())
        if verdict.code is not None:
            body = stopped_body(verdict, recorded=receipt.recorded, rejected=rejected)
            await respond(send, 429, body, headers=headers)
        elif decoded.errors:
            await respond(send, 422, _refused(decoded.errors, receipt.recorded, rejected), headers=headers)
        else:
            await respond(send, 202, _accepted(decoded, receipt, verdict), headers=headers)


async def respond_burst(send: Send, error: AppError) -> None:
    """Answer our own trouble as the one status that the published clients keep a batch for."""
    body = problem(429, error.code, error.detail, {"reason": "burst"})
    await respond(send, 429, body, headers=((b"retry-after", str(RETRY_AFTER_S).encode()),))


def _accepted(decoded: Decoded, receipt: Receipt, verdict: Verdict) -> dict[str, object]:
    """Return the 202 body: the reference's four fields, and what else is worth knowing."""
    rejected = [(index, "idempotency_conflict") for index in receipt.conflicts]
    rejected += [(index, "amount_overflow") for index in receipt.quarantined]
    body: dict[str, object] = {
        "accepted": receipt.recorded,
        "rejected": len(rejected),
        "mode": "direct",
        "rejected_agents": list(verdict.stopped),
        "duplicates": len(receipt.duplicates),
        "batch": receipt.batch,
    }
    if verdict.standing is not None:
        body["budget_state"] = verdict.standing.state
    if rejected:
        body["rejected_items"] = [
            {"index": decoded.positions[index], "code": code} for index, code in sorted(rejected)
        ]
    return body


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
