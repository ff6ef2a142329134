"""The body of POST /v1/holds: decoded, checked, bound to the caller's key.

    POST /v1/holds  →  HoldDecoder.decode  →  Asked

Bodies of the documented form take a quick road; anything else is read field by field, which
names what is at fault. An unknown field is refused: a misspelt bound of a call would be one
that nobody keeps.

Not here: reading a body (`hold_form`), those that end a hold (`hold_ends`), what a call may cost
(`enforcement.estimating`).
"""

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from bursar.budgets.guards import fingerprint_of
from bursar.budgets.matching import Call
from bursar.capture import checks
from bursar.core.errors import InvalidInput
from bursar.core.ids import key_from_text, new_id
from bursar.core.time import MICROS_PER_SECOND
from bursar.core.usage import ServiceTier, Source, Subject, UsageEvent
from bursar.http.v1.hold_form import (
    DEADLINE_S,
    GRACE_S,
    NOT_DECODED,
    HoldBody,
    UsageBody,
    careful_body,
    key_text_of,
    nusd_of,
    quick_body,
)
from bursar.http.v1.ingest_body import bound
from bursar.pricing.engine import canonical
from bursar.web.principal import Principal

NAMES_KEPT_MAX = 20_000
"""Calls' names that are kept, each at most `KEPT_LENGTH_MAX` characters: some 20 MB at the very most."""

KEPT_LENGTH_MAX = 512

_Names = tuple[str, str, str, str, str, tuple[tuple[str, str], ...], int, str, str]


class Asked(NamedTuple):
    """A hold as asked for, checked.

    Attributes:
        key, key_text: The idempotency key; the text is None where the caller sent none.
        digest: Of the request's meaning; what is estimated is no part of it.
        amount_nusd: The worst case as the caller says it; None where it gives `usage`.
        usage: The call with its input counts and its service tier; None where it gives an amount.
        ceiling_nusd: What it costs at most where no price is known.
        deadline, grace: Microseconds.
        fingerprint: Of what is called, to tell repetitions; 0 for none.
    """

    key: bytes
    key_text: str | None
    digest: bytes
    call: Call
    amount_nusd: int | None
    usage: UsageEvent | None
    max_output_tokens: int | None
    ceiling_nusd: int | None
    deadline: int
    grace: int
    allow_smaller: bool
    min_output_tokens: int
    depth: int
    fingerprint: int


_pack = msgspec.msgpack.Encoder().encode


class HoldDecoder:
    """Decodes bodies; keeps the names it has seen, whose texts need no second check."""

    def __init__(self) -> None:
        self._kept: dict[_Names, tuple[Call, Subject]] = {}

    def decode(self, raw: bytes, header_key: str | None, principal: Principal, now: int) -> Asked:
        """Return what a body asks for.

        Args:
            raw: JSON, not compressed.
            header_key: The `Idempotency-Key` header.
            principal: Whose bindings the names must fit.
            now: Microseconds UTC; the time by which the call is priced.

        Raises:
            InvalidInput: `field` says where, the sentence what it must be.
        """
        try:
            body = quick_body(raw)
        except NOT_DECODED:
            body = careful_body(raw)
        return self.asked(body, header_key, principal, now)

    def asked(self, body: HoldBody, header_key: str | None, principal: Principal, now: int) -> Asked:
        """Return what a decoded body asks for; see `decode`."""
        call, subject = self._names(body, principal)
        key_text = key_text_of(body.idempotency_key, header_key)
        amount = nusd_of(body.amount_usd, "amount_usd", is_positive=True)
        ceiling = nusd_of(body.ceiling_usd, "ceiling_usd", is_positive=True)
        usage = body.usage
        if (amount is None) is (usage is None):
            raise InvalidInput("send either amount_usd or usage", field="amount_usd")
        if usage is None:
            _refuse_bounds_of_output(body, ceiling)
        tier = _tier(body.service_tier)
        deadline, grace = _micros(body.deadline_s, DEADLINE_S), _micros(body.grace_s, GRACE_S)
        event = None if usage is None else _priced_event(usage, subject, tier, now)
        return Asked(
            key=key_from_text(key_text) if key_text else new_id(),
            key_text=key_text,
            digest=_digest(body, call, (amount, ceiling, deadline, grace)),
            call=call,
            amount_nusd=amount,
            usage=event,
            max_output_tokens=None if usage is None else usage.max_output_tokens,
            ceiling_nusd=ceiling,
            deadline=deadline,
            grace=grace,
            allow_smaller=bool(body.allow_smaller),
            min_output_tokens=body.min_output_tokens or 1,
            depth=body.depth or 0,
            fingerprint=fingerprint_of(body.fingerprint or ""),
        )

    def _names(self, body: HoldBody, principal: Principal) -> tuple[Call, Subject]:
        """Return whose call it is, and of what; names are checked when first seen."""
        tags = tuple(sorted(body.tags.items())) if body.tags else ()
        names = (
            body.agent or "", body.project or "", body.user or "", body.provider or "", body.model, tags,
            principal.api_key, principal.agent, principal.project,
        )  # fmt: skip
        kept = self._kept.get(names)
        if kept is None:
            kept = _checked_names(names)
            if _length_of(names) <= KEPT_LENGTH_MAX:
                if len(self._kept) >= NAMES_KEPT_MAX:
                    self._kept.clear()
                self._kept[names] = kept
        if body.run:
            return kept[0]._replace(run=checks.name(body.run, "run")), kept[1]
        return kept


def _length_of(names: _Names) -> int:
    agent, project, user, provider, model, tags, *_ = names
    texts = (agent, project, user, provider, model, *(text for tag in tags for text in tag))
    return sum(map(len, texts))


def _checked_names(names: _Names) -> tuple[Call, Subject]:
    agent, project, user, provider, model, tags, api_key, bound_agent, bound_project = names
    agent = bound(checks.optional_name(agent, "agent"), bound_agent, "agent")
    if not agent:
        raise InvalidInput("agent is required: whose call is it?", field="agent")
    project = bound(checks.optional_name(project, "project"), bound_project, "project")
    user = checks.optional_name(user, "user")
    model = checks.name(model, "model")
    sent = checks.optional_name(provider, "provider")
    for name, text in tags:
        checks.name(name, "tags")
        checks.name(text, f"tags.{name}")
    call = Call(agent, project, user, api_key, sent or canonical(sent, model).provider, model, "", tags)
    return call, Subject(agent, sent, model, project, "", user, api_key)


def _priced_event(usage: UsageBody, subject: Subject, tier: ServiceTier, now: int) -> UsageEvent:
    return UsageEvent(
        key=b"",
        occurred_at=now,
        subject=subject,
        source=Source.HOLD,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        web_searches=usage.web_searches,
        service_tier=tier,
    )


def _digest(body: HoldBody, call: Call, figures: tuple[int | None, ...]) -> bytes:
    """Return 16 bytes over what is asked for: not which key asks, nor how it spells it."""
    usage = None if body.usage is None else msgspec.structs.astuple(body.usage)
    meaning = (
        call.agent, call.project, call.user, body.provider or "", call.model, call.run, call.tags,
        figures, usage, body.service_tier, bool(body.allow_smaller), body.min_output_tokens,
        body.depth or 0, body.fingerprint,
    )  # fmt: skip
    return blake2b(_pack(meaning), digest_size=16).digest()


def _refuse_bounds_of_output(body: HoldBody, ceiling: int | None) -> None:
    """Refuse what has no meaning beside an amount.

    Raises:
        InvalidInput: The field.
    """
    meaningless = {
        "allow_smaller": body.allow_smaller,
        "min_output_tokens": body.min_output_tokens,
        "ceiling_usd": ceiling is not None,
        "service_tier": body.service_tier,
    }
    for field, is_sent in meaningless.items():
        if is_sent:
            raise InvalidInput(f"{field} belongs to usage, not to amount_usd", field=field)


def _tier(text: str | None) -> ServiceTier:
    if text is None:
        return ServiceTier.STANDARD
    return checks.choice(text, "service_tier", checks.SERVICE_TIERS)


def _micros(seconds: float | None, default_s: int) -> int:
    return round((default_s if seconds is None else seconds) * MICROS_PER_SECOND)
