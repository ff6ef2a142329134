"""The body of POST /v1/holds: decoded, checked, bound to the caller's key.

    POST /v1/holds  →  HoldDecoder.decode  →  Asked

Bodies of the documented form take a quick road; anything else is read field by field, which
names what is at fault. An unknown field is refused: a misspelt bound of a call would be one
that nobody keeps. Money is read from the number's own text, so no binary float stands between.

Not here: the bodies that end a hold (`hold_ends`), what a call may cost (`enforcement.estimating`).
"""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, NamedTuple, cast

import msgspec
from msgspec import Meta, Raw

from bursar.budgets.matching import Call
from bursar.capture import checks
from bursar.capture.native import KEY_LENGTH_MAX
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.ids import key_from_text, new_id
from bursar.core.money import nusd_from_text
from bursar.core.time import MICROS_PER_SECOND
from bursar.core.usage import TOKENS_MAX, ServiceTier, Source, Subject, UsageEvent
from bursar.http.v1.ingest_body import bound
from bursar.pricing.engine import canonical
from bursar.web.principal import Principal

DEADLINE_S = 600
DEADLINE_S_MAX = 86_400
GRACE_S = 300
GRACE_S_MAX = 86_400
TAGS_MAX = 16
DEPTH_MAX = 1_000_000
NAMES_KEPT_MAX = 20_000

_Name = Annotated[str, Meta(min_length=1, max_length=checks.NAME_LENGTH_MAX)]
_Optional = Annotated[str, Meta(max_length=checks.NAME_LENGTH_MAX)] | None
_Key = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)] | None
_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
_Output = Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None
NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)
ABSENT = Raw(b"")
_Names = tuple[str, str, str, str, str, tuple[tuple[str, str], ...], int, str, str]


class UsageBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a call will use: its input as counted, and the most output it may bring."""

    input_tokens: _Count = 0
    max_output_tokens: _Output = None
    cache_read_tokens: _Count = 0
    cache_write_5m_tokens: _Count = 0
    cache_write_1h_tokens: _Count = 0
    input_audio_tokens: _Count = 0
    input_image_tokens: _Count = 0
    web_searches: _Count = 0


class HoldBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The whole body of POST /v1/holds; a null is as good as a field left out."""

    model: _Name
    agent: _Optional = None
    provider: _Optional = None
    project: _Optional = None
    user: _Optional = None
    run: _Optional = None
    parent_run: _Optional = None
    session: _Optional = None
    tags: Annotated[dict[_Name, _Name], Meta(max_length=TAGS_MAX)] | None = None
    idempotency_key: _Key = None
    amount_usd: Raw = ABSENT
    usage: UsageBody | None = None
    ceiling_usd: Raw = ABSENT
    service_tier: str | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=DEADLINE_S_MAX)] | None = None
    grace_s: Annotated[float, Meta(ge=0, le=GRACE_S_MAX)] | None = None
    allow_smaller: bool | None = None
    min_output_tokens: _Output = None
    depth: Annotated[int, Meta(ge=0, le=DEPTH_MAX)] | None = None
    fingerprint: _Key = None


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


quick_body = msgspec.json.Decoder(HoldBody).decode
"""Reads a body of the documented form; raises one of `NOT_DECODED` for any other."""

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
        ceiling = nusd_of(body.ceiling_usd, "ceiling_usd")
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
            fingerprint=_fingerprint(body.fingerprint),
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
            if len(self._kept) >= NAMES_KEPT_MAX:
                self._kept.clear()
            kept = self._kept[names] = _checked_names(names)
        if body.run:
            return kept[0]._replace(run=checks.name(body.run, "run")), kept[1]
        return kept


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


def key_text_of(said: str | None, header: str | None) -> str | None:
    """Return the idempotency key, from the body or the header; None where there is none.

    Raises:
        InvalidInput: The two differ, or the header is empty or too long.
    """
    if header is None:
        return said
    if said not in {None, header}:
        raise InvalidInput("idempotency_key differs from the header Idempotency-Key", field="idempotency_key")
    if not 1 <= len(header) <= KEY_LENGTH_MAX:
        raise _not_a_key("Idempotency-Key")
    return header


def nusd_of(raw: Raw, field: str, *, is_positive: bool = False) -> int | None:
    """Return an amount from its JSON text, a number or text; None for null or none.

    Raises:
        InvalidAmount: No money; `field` is named.
    """
    if raw is ABSENT:
        return None
    text = bytes(raw).decode("utf-8", "replace")
    if text == "null":
        return None
    if text[0] in "[{tf":
        raise InvalidAmount(f"{field} must be a number of US dollars", field=field)
    if text[0] == '"':
        text = text[1:-1]
    try:
        nusd = nusd_from_text(text)
    except InvalidAmount as error:
        raise InvalidAmount(f"{field} {error.detail}", field=field) from None
    if is_positive and not nusd:
        raise InvalidAmount(f"{field} must be above zero", field=field)
    return nusd


def _tier(text: str | None) -> ServiceTier:
    if text is None:
        return ServiceTier.STANDARD
    return checks.choice(text, "service_tier", checks.SERVICE_TIERS)


def _micros(seconds: float | None, default_s: int) -> int:
    return round((default_s if seconds is None else seconds) * MICROS_PER_SECOND)


def _fingerprint(text: str | None) -> int:
    """Return 63 bits of a text, never 0, which stands for none."""
    if not text:
        return 0
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 or 1


def _not_a_key(field: str) -> InvalidInput:
    return InvalidInput(f"{field} must be text of 1 to {KEY_LENGTH_MAX} characters", field=field)


# The careful road: one field after the other, each fault in a sentence.

_TEXTS = ("agent", "provider", "project", "user", "run", "parent_run", "session")
_FIELDS = frozenset(HoldBody.__struct_fields__)
_USAGE_FIELDS = frozenset(UsageBody.__struct_fields__)


def careful_body(raw: bytes) -> HoldBody:
    """Read a body field by field.

    Raises:
        InvalidInput: The first field at fault.
    """
    fields = object_of(raw)
    only_known(fields, _FIELDS)
    sent = {name: value for name, value in fields.items() if value is not None}
    if "model" not in sent:
        raise InvalidInput("model is required", field="model")
    body = HoldBody(model=checks.name(sent["model"], "model"))
    for name in _TEXTS:
        setattr(body, name, checks.optional_name(sent.get(name), name) or None)
    body.tags = _tags(sent.get("tags"))
    for name in ("idempotency_key", "fingerprint"):
        setattr(body, name, _key(sent.get(name), name))
    for name in ("amount_usd", "ceiling_usd"):
        setattr(body, name, amount_text(sent.get(name), name))
    body.usage = _usage(sent.get("usage"))
    body.service_tier = _plain_text(sent.get("service_tier"), "service_tier")
    body.deadline_s = seconds(sent.get("deadline_s"), "deadline_s", DEADLINE_S_MAX)
    body.grace_s = seconds(sent.get("grace_s"), "grace_s", GRACE_S_MAX, may_be_zero=True)
    body.allow_smaller = _truth(sent.get("allow_smaller"), "allow_smaller")
    body.min_output_tokens = _output(sent.get("min_output_tokens"), "min_output_tokens")
    body.depth = checks.count(sent.get("depth", 0), "depth", DEPTH_MAX)
    return body


def object_of(raw: bytes) -> dict[str, object]:
    """Return a body that must be a JSON object.

    Raises:
        InvalidInput: It is none.
    """
    value = checks.decode_json(raw)
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value


def only_known(fields: Mapping[str, object], known: frozenset[str], prefix: str = "") -> None:
    """Refuse a field that the route does not know.

    Raises:
        InvalidInput: The first one.
    """
    for name in fields:
        if name not in known:
            sentence = f"{prefix}{name} is not a field of this request; known are {', '.join(sorted(known))}"
            raise InvalidInput(sentence, field=f"{prefix}{name}")


def _usage(value: object) -> UsageBody | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput('usage must be an object, for example {"input_tokens": 1200}', field="usage")
    only_known(value, _USAGE_FIELDS, "usage.")
    counts = {
        name: checks.count(given, f"usage.{name}")
        for name, given in value.items()
        if given is not None and name != "max_output_tokens"
    }
    return UsageBody(
        max_output_tokens=_output(value.get("max_output_tokens"), "usage.max_output_tokens"), **counts
    )


def _output(value: object, field: str) -> int | None:
    if value is None:
        return None
    if checks.count(value, field) < 1:
        raise InvalidInput(f"{field} must be above zero", field=field)
    return cast("int", value)


def _tags(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput('tags must be an object, for example {"team": "ads"}', field="tags")
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"tags may be at most {TAGS_MAX}", field="tags")
    return {checks.name(name, "tags"): checks.name(text, f"tags.{name}") for name, text in value.items()}


def _key(value: object, field: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_LENGTH_MAX:
        raise _not_a_key(field)
    return value


def _plain_text(value: object, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{field} must be text", field=field)
    return value


def _truth(value: object, field: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{field} must be true or false", field=field)
    return value


def seconds(value: object, field: str, most: int, *, may_be_zero: bool = False) -> float | None:
    """Return a number of seconds, None for none.

    Raises:
        InvalidInput: Not a number, or out of bounds.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidInput(f"{field} must be a number of seconds", field=field)
    if not 0 <= value <= most or (not value and not may_be_zero):
        least = "from 0" if may_be_zero else "above 0"
        raise InvalidInput(f"{field} must be {least} and at most {most}", field=field)
    return float(value)


def amount_text(value: object, field: str) -> Raw:
    """Return an amount as the quick road has it: its JSON text.

    Raises:
        InvalidAmount: Neither a number nor text.
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidAmount(f"{field} must be a number of US dollars", field=field)
    return Raw(msgspec.json.encode(str(value)))
