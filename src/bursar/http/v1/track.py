"""POST /v1/track: AI Cost Guard's door, one call a request.

The body has camel-case names, no time and no cost of its own; feature and user stand at
the top (its published client) or in `metadata` (its reference), the top winning. Its
client repeats any failed request for ever, so our own trouble answers 429 and everything
else a JSON object; a budget that is used up is told in the answer, never by a refusal.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

from starlette.types import Receive, Scope, Send

from bursar.capture import checks
from bursar.core.errors import IdempotencyConflict, InvalidInput, TooLarge, Unavailable
from bursar.core.ids import key_from_text, new_id, text_from_id
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.http.v1.ingest import BodyLimits, respond_burst
from bursar.http.v1.ingest_body import bound
from bursar.http.v1.stops import headers_of, verdict_of
from bursar.identity.keys import Scope as KeyScope
from bursar.ingestion.admission import Admission
from bursar.ingestion.intake import Intake
from bursar.web.edge import respond
from bursar.web.principal import Authenticator, Principal

DEFAULT_AGENT = "default"
"""Whom a call belongs to when the body names nobody: this product knows no agents."""

BODY_BYTES_MAX = 512 * 1024
"""Bytes of one call; its metadata are kept to 4 KiB."""

_KNOWN = frozenset({
    "provider", "model", "inputTokens", "outputTokens", "latencyMs", "projectId", "metadata", "feature",
    "userId", "success", "errorMessage", "promptName", "cost", "agent", "idempotencyKey", "runId",
})  # fmt: skip


class TrackEndpoint:
    """A plain ASGI callable, like the ingest door."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: BodyLimits,
        intake: Intake,
        clock: Callable[[], int],
        *,
        admission: Admission,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._intake = intake
        self._clock = clock
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 201 and the recorded event's id."""
        try:
            await self._serve(scope, receive, send)
        except Unavailable as error:
            await respond_burst(send, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = await self._authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        await self._admission.require_open(principal.org)
        raw = await self._limits.read(scope, receive)
        if len(raw) > BODY_BYTES_MAX:
            raise TooLarge(f"a call has at most {BODY_BYTES_MAX} bytes")
        body = checks.decode_json(raw)
        if not isinstance(body, dict):
            raise InvalidInput("the body must be an object")
        key = body.get("idempotencyKey") or _header_key(scope)
        event = track_event(body, principal, key=key, now=self._clock())
        receipt = await self._intake.record(principal.org, [event])
        if receipt.conflicts:
            raise IdempotencyConflict(
                "this idempotency key was used for another call; nothing was recorded", field="idempotencyKey"
            )
        if receipt.quarantined:
            raise InvalidInput(
                "the total of this agent would leave 64 bits; kept in quarantine", field="cost"
            )
        duplicate = bool(receipt.duplicates)
        answer: dict[str, object] = {
            "id": text_from_id("evt", event.key),
            "success": True,
            "duplicate": duplicate,
        }
        verdict = verdict_of(receipt.seen, [event])
        if verdict.standing is not None:
            answer["budget_state"] = verdict.standing.state
        await respond(send, 201, answer, headers=headers_of(verdict, self._clock()))


def track_event(
    body: Mapping[str, object], principal: Principal, *, key: object = None, now: int
) -> UsageEvent:
    """Return the event of one AI Cost Guard body.

    Args:
        body: The decoded object, fractional numbers as `Decimal`.
        principal: Whose key it came with: its project wins over `projectId`.
        key: An idempotency key where the caller sends one; else each call is new.
        now: Server time; this format has none of its own.

    Raises:
        InvalidInput: The field at fault and what it must be.
    """
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidInput("metadata must be an object", field="metadata")
    extra = dict(metadata or {})
    feature = body.get("feature") or extra.pop("feature", None)
    user = body.get("userId") or extra.pop("userId", None)
    agent = checks.optional_name(body.get("agent"), "agent") or principal.agent or DEFAULT_AGENT
    subject = Subject(
        bound(agent, principal.agent, "agent"),
        checks.name(body.get("provider"), "provider"),
        checks.name(body.get("model"), "model"),
        bound(checks.optional_name(body.get("projectId"), "projectId"), principal.project, "projectId"),
        checks.optional_name(feature, "feature"),
        checks.optional_name(user, "userId"),
        principal.api_key,
    )
    key_text = checks.optional_name(key, "idempotencyKey")
    for name in ("errorMessage", "promptName"):
        if body.get(name) is not None:
            extra[name] = body[name]
    extra.update({name: value for name, value in body.items() if name not in _KNOWN})
    return UsageEvent(
        key=key_from_text(key_text) if key_text else new_id(),
        occurred_at=now,
        time_stamped=True,
        subject=subject,
        source=Source.TRACK,
        input_tokens=checks.count(body.get("inputTokens"), "inputTokens"),
        output_tokens=checks.count(body.get("outputTokens"), "outputTokens"),
        duration_ms=checks.duration_ms(_latency(body.get("latencyMs")), "latencyMs", fractional=True),
        reported_nusd=checks.cost_nusd(body.get("cost"), "cost"),
        is_error=body.get("success") is False,
        run=checks.optional_name(body.get("runId"), "runId"),
        attributes=checks.attributes(extra, "metadata") if extra else None,
    )


def _latency(value: object) -> object:
    """Return 0 for an absent latency; the client leaves it out when it measured none."""
    return Decimal(0) if value is None else value


def _header_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            return bytes(value).decode("latin-1")
    return None
