"""The JSON form of a `UsageEvent`: what `POST /v1/events` takes and exports give.

    body  →  decode_events  →  Decoded (good events, faults by index)  →  ingestion
    UsageEvent  →  encode_event  →  JSON-ready dict

The field names are those of `UsageEvent`, with the caller's words for ids and money
(`idempotency_key`, `run_id`, `cost_usd`). A body is one event, a list of them, or an
object with `events`. One bad event never spoils the others. Fields that we do not know
are kept in `attributes`.

An event may name the hold that it settles (`hold_id`), and then leave out the names and the key
that the hold has.

An importer that speaks to a running server sends its derived keys as `key_hex`, so that
a call imported here and there is still one event.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import msgspec

from bursar.capture import checks
from bursar.core.errors import InvalidInput, TooLarge
from bursar.core.ids import id_from_text, key_from_text, new_id
from bursar.core.money import text_from_nusd
from bursar.core.time import text_from_micros
from bursar.core.usage import HOLDS_KEY, NO_TEXT, Billing, ServiceTier, Source, Subject, UsageEvent

EVENTS_MAX = 10_000
"""Events of one body, unless the caller of `decode_events` sets another bound."""

KEY_BYTES = 16
"""Bytes of an event key."""

KEY_LENGTH_MAX = 512
"""Characters of an idempotency key."""

AHEAD_US_MAX = 24 * 3_600_000_000
"""A time further ahead of our clock than a day is flagged as suspect."""

EARLIEST_US = 1_420_070_400_000_000
"""2015-01-01T00:00:00Z: a time before it is flagged as suspect; nobody billed tokens then."""

SOURCES = {
    "native": Source.NATIVE,
    "claude_code": Source.CLAUDE_CODE,
    "csv": Source.CSV,
    "codex": Source.CODEX,
    "gemini_cli": Source.GEMINI_CLI,
    "otlp": Source.OTLP,
}
"""Sources that a caller may name; the others are named by the doors themselves."""

_TIER_TEXTS = {tier: text for text, tier in checks.SERVICE_TIERS.items()}
_BILLING_TEXTS = {billing: text for text, billing in checks.BILLINGS.items()}
_SOURCE_TEXTS = {source: text for text, source in SOURCES.items()}
_SUBJECT_OPTIONAL = ("provider", "project", "feature", "user")
_RUNS = {"run": "run_id", "parent_run": "parent_run_id", "session": "session_id"}
_KNOWN = frozenset(
    {
        *("idempotency_key", "key_hex", "revision", "occurred_at", "agent", "model", "hold_id"),
        *("duration_ms", "cost_usd", "status", "error", "billing", "service_tier", "source"),
        *("attributes", "prompt"),
        *_SUBJECT_OPTIONAL,
        *_RUNS.values(),
        *checks.COUNT_FIELDS,
    }
)


class Fault(msgspec.Struct, frozen=True):
    """Why one event of a body was refused: its index from 0, the field, a sentence."""

    index: int
    field: str
    message: str


class Decoded(NamedTuple):
    """What a body held. `indexes[i]` is the place in the body of `events[i]`."""

    events: list[UsageEvent]
    indexes: list[int]
    faults: list[Fault]


def decode_events(raw: bytes, *, now: int, events_max: int = EVENTS_MAX) -> Decoded:
    """Return the events of a JSON body, and a fault for each that is none.

    Args:
        raw: JSON in UTF-8, not compressed.
        now: Microseconds UTC; dates events that carry no time.
        events_max: Most events of one body.

    Raises:
        InvalidInput: The body is no JSON, or neither an object nor a list.
        TooLarge: More than `events_max` events.
    """
    items = _items(checks.decode_json(raw))
    if len(items) > events_max:
        raise TooLarge(f"a request carries at most {events_max} events")
    decoded = Decoded([], [], [])
    for index, item in enumerate(items):
        try:
            decoded.events.append(event_from_object(item, now=now))
            decoded.indexes.append(index)
        except InvalidInput as error:
            decoded.faults.append(Fault(index, error.field or NO_TEXT, error.detail))
    return decoded


def event_from_object(item: object, *, now: int) -> UsageEvent:
    """Return the event that a decoded JSON object describes.

    Raises:
        InvalidInput: A field is wrong or a required one (`agent`, `model`) is missing.
    """
    if not isinstance(item, dict):
        raise InvalidInput("an event must be a JSON object")
    sent = cast("dict[str, object]", item)
    hold = _hold(sent)
    occurred_at, time_stamped = _occurred_at(sent, now)
    error = _error(sent)
    event = UsageEvent(
        key=_key(sent, fresh=new_id() if hold is None else HOLDS_KEY),
        hold=hold,
        occurred_at=occurred_at,
        time_stamped=time_stamped,
        clock_suspect=not EARLIEST_US <= occurred_at <= now + AHEAD_US_MAX,
        subject=_subject(sent, has_hold=hold is not None),
        source=_choice(sent, "source", SOURCES, Source.NATIVE),
        duration_ms=checks.duration_ms(_or_zero(sent, "duration_ms"), "duration_ms"),
        reported_nusd=checks.cost_nusd(sent.get("cost_usd"), "cost_usd"),
        is_error=_choice(sent, "status", checks.STATUSES, bool(error)),
        billing=_choice(sent, "billing", checks.BILLINGS, Billing.METERED),
        service_tier=_choice(sent, "service_tier", checks.SERVICE_TIERS, ServiceTier.STANDARD),
        revision=checks.count(_or_zero(sent, "revision"), "revision", checks.REVISION_MAX),
        attributes=_attributes(sent, error),
        prompt=checks.prompt(sent.get("prompt"), "prompt"),
    )
    counts = {name: checks.count(_or_zero(sent, name), name) for name in checks.COUNT_FIELDS if name in sent}
    runs = {name: checks.optional_name(sent.get(field), field) for name, field in _RUNS.items()}
    return msgspec.structs.replace(event, **counts, **runs)


def encode_event(event: UsageEvent) -> dict[str, object]:
    """Return the JSON-ready object that `event_from_object` reads as the same event.

    Zeros, empty texts and defaults are left out. A hold, the API key's number and the
    marks of our own clock are not part of the form: they belong to the door, not the call.
    """
    subject = event.subject
    texts = {
        "key_hex": event.key.hex(),
        "occurred_at": text_from_micros(event.occurred_at),
        "agent": subject.agent,
        "provider": subject.provider,
        "model": subject.model,
        "project": subject.project,
        "feature": subject.feature,
        "user": subject.user,
        "run_id": event.run,
        "parent_run_id": event.parent_run,
        "session_id": event.session,
        "source": _SOURCE_TEXTS.get(event.source, "native"),
        "status": "error" if event.is_error else "ok",
        "billing": _BILLING_TEXTS[event.billing],
        "service_tier": _TIER_TEXTS[event.service_tier],
    }
    encoded: dict[str, object] = {name: text for name, text in texts.items() if text}
    numbers = ("revision", "duration_ms", *checks.COUNT_FIELDS)
    encoded |= {name: value for name in numbers if (value := getattr(event, name))}
    if event.reported_nusd is not None:
        encoded["cost_usd"] = text_from_nusd(event.reported_nusd)
    if event.attributes:
        encoded["attributes"] = dict(event.attributes)
    if event.prompt is not None:
        encoded["prompt"] = event.prompt
    return encoded


def _items(decoded: object) -> list[object]:
    if isinstance(decoded, dict):
        events = decoded.get("events", [decoded])
        if not isinstance(events, list):
            raise InvalidInput("events must be a list", field="events")
        return events
    if isinstance(decoded, list):
        return decoded
    raise InvalidInput("the body must be an event, a list of events, or an object with events")


def _key(sent: Mapping[str, object], *, fresh: bytes) -> bytes:
    """Return the key said in either way, else `fresh`."""
    text, digits = sent.get("idempotency_key"), sent.get("key_hex")
    if text is not None and digits is not None:
        raise InvalidInput("send idempotency_key or key_hex, not both", field="key_hex")
    if digits is not None:
        return _key_from_hex(digits)
    if text is None:
        return fresh
    if not isinstance(text, str) or not 1 <= len(text) <= KEY_LENGTH_MAX:
        raise InvalidInput(
            f"idempotency_key must be text of 1 to {KEY_LENGTH_MAX} characters", field="idempotency_key"
        )
    return key_from_text(text)


def _key_from_hex(digits: object) -> bytes:
    try:
        if isinstance(digits, str) and len(digits) == 2 * KEY_BYTES and digits.isalnum():
            return bytes.fromhex(digits)
    except ValueError:
        pass
    raise InvalidInput("key_hex must be 32 hex digits", field="key_hex")


def _occurred_at(sent: Mapping[str, object], now: int) -> tuple[int, bool]:
    text = sent.get("occurred_at")
    return (now, True) if text is None else (checks.occurred_at(text, "occurred_at"), False)


def _hold(sent: Mapping[str, object]) -> bytes | None:
    text = sent.get("hold_id")
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidInput("hold_id must be text, the id of a hold", field="hold_id")
    return id_from_text(text, field="hold_id")


def _subject(sent: Mapping[str, object], *, has_hold: bool) -> Subject:
    """Return the names; an event with a hold may leave those out that the hold has."""
    optional = {name: checks.optional_name(sent.get(name), name) for name in _SUBJECT_OPTIONAL}
    if has_hold:
        agent, model = (checks.optional_name(sent.get(name), name) for name in ("agent", "model"))
    else:
        agent, model = (checks.name(_required(sent, name), name) for name in ("agent", "model"))
    return Subject(
        agent, optional["provider"], model, optional["project"], optional["feature"], optional["user"]
    )


def _required(sent: Mapping[str, object], name: str) -> object:
    if sent.get(name) is None:
        raise InvalidInput(f"{name} is required", field=name)
    return sent[name]


def _or_zero(sent: Mapping[str, object], name: str) -> object:
    value = sent.get(name)
    return 0 if value is None else value


def _choice(
    sent: Mapping[str, object], name: str, choices: Mapping[str, checks.Choice], default: checks.Choice
) -> checks.Choice:
    value = sent.get(name)
    return default if value is None else checks.choice(value, name, choices)


def _error(sent: Mapping[str, object]) -> str:
    error = sent.get("error")
    if error is None:
        return NO_TEXT
    if not isinstance(error, str):
        raise InvalidInput("error must be text", field="error")
    return error[: checks.ERROR_LENGTH_MAX]


def _attributes(sent: Mapping[str, object], error: str) -> dict[str, object] | None:
    """Return attributes with the error's text and unknown fields; what was sent as attribute wins."""
    said = sent.get("attributes")
    if said is not None and not isinstance(said, dict):
        raise InvalidInput("attributes must be an object", field="attributes")
    kept = {name: value for name, value in sent.items() if name not in _KNOWN}
    if error:
        kept["error"] = error
    return checks.attributes(kept | (said or {}), "attributes") if kept or said else None
