"""The bodies that end a hold: what was spent, why nothing was, or how long it goes on.

    POST …/settle  →  settlement_of  →  UsageEvent that names the hold
    POST …/void    →  reason_of
    POST …/extend  →  deadline_of

A settlement is the event as `POST /v1/events` takes it, less what the hold knows: names that
are left out are the hold's, and so is the key. Counts may stand in `usage`, as when asking. The
common fields take a quick road, a body with any other field the native door's.
"""

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw

from bursar.capture import checks
from bursar.capture.native import AHEAD_US_MAX, EARLIEST_US, KEY_LENGTH_MAX, event_from_object
from bursar.core.errors import InvalidInput
from bursar.core.ids import key_from_text
from bursar.core.time import MICROS_PER_SECOND, micros_from_datetime
from bursar.core.usage import HOLDS_KEY, NO_TEXT, TOKENS_MAX, Source, Subject, UsageEvent
from bursar.http.v1.hold_form import (
    ABSENT,
    DEADLINE_S_MAX,
    NOT_DECODED,
    key_text_of,
    nusd_of,
    object_of,
    only_known,
    seconds,
)

REASON_LENGTH_MAX = 1_024

_Optional = Annotated[str, Meta(max_length=checks.NAME_LENGTH_MAX)] | None
_Key = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)] | None
_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
_Duration = Annotated[int, Meta(ge=0, le=checks.DURATION_MS_MAX)] | None
_Moment = Annotated[datetime, Meta(tz=True)] | None
_KNOWN_BY_HOLD = ("agent", "model")


class _Counts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What the call used, by kind; the names are those of `UsageEvent`."""

    input_tokens: _Count = 0
    output_tokens: _Count = 0
    reasoning_tokens: _Count = 0
    cache_read_tokens: _Count = 0
    cache_write_5m_tokens: _Count = 0
    cache_write_1h_tokens: _Count = 0


class _SettleBody(_Counts, forbid_unknown_fields=True, gc=False):
    """The common fields of a settlement."""

    cost_usd: Raw = ABSENT
    usage: _Counts | None = None
    duration_ms: _Duration = None
    status: str | None = None
    occurred_at: _Moment = None
    idempotency_key: _Key = None
    model: _Optional = None
    provider: _Optional = None


class Settlement(NamedTuple):
    """What was spent, and whose hold the caller takes it to be; empty where it does not say."""

    event: UsageEvent
    agent: str = NO_TEXT
    project: str = NO_TEXT


_decode = msgspec.json.Decoder(_SettleBody).decode
_NO_COUNTS = _Counts()


def settlement_of(
    raw: bytes, hold_id: bytes, *, header_key: str | None, api_key: int, now: int
) -> Settlement:
    """Return the event that settles a hold.

    Its agent is empty, its model, provider and key where the caller does not say: they are
    the hold's, which only the commit knows for certain.

    Raises:
        InvalidInput: `field` says where, the sentence what it must be.
    """
    try:
        body = _decode(raw)
    except NOT_DECODED:
        found = _careful(raw, hold_id, header_key=header_key, api_key=api_key, now=now)
        _require_cost(found.event)
        return found
    if body.status not in {None, "ok", "error"}:
        checks.choice(body.status, "status", checks.STATUSES)
    counts: _Counts = body if body.usage is None else body.usage
    if counts is not body and _figures(body) != _figures(_NO_COUNTS):
        raise InvalidInput("send counts in usage or beside it, not both", field="usage")
    key = key_text_of(body.idempotency_key, header_key)
    at = body.occurred_at
    occurred_at = now if at is None else micros_from_datetime(at, field="occurred_at")
    event = UsageEvent(
        key=key_from_text(key) if key else HOLDS_KEY,
        occurred_at=occurred_at,
        time_stamped=at is None,
        clock_suspect=not EARLIEST_US <= occurred_at <= now + AHEAD_US_MAX,
        subject=_subject(body, api_key),
        source=Source.HOLD,
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        reasoning_tokens=counts.reasoning_tokens,
        cache_read_tokens=counts.cache_read_tokens,
        cache_write_5m_tokens=counts.cache_write_5m_tokens,
        cache_write_1h_tokens=counts.cache_write_1h_tokens,
        duration_ms=body.duration_ms or 0,
        reported_nusd=nusd_of(body.cost_usd, "cost_usd"),
        is_error=body.status == "error",
        hold=hold_id,
    )
    _require_cost(event)
    return Settlement(event)


def reason_of(raw: bytes) -> str:
    """Return why a hold is given back, empty where the caller does not say.

    Raises:
        InvalidInput: Not an object with at most a reason, or one that is too long.
    """
    if not raw.strip():
        return NO_TEXT
    fields = object_of(raw)
    only_known(fields, frozenset({"reason"}))
    reason = fields.get("reason")
    if reason is None:
        return NO_TEXT
    if not isinstance(reason, str) or len(reason) > REASON_LENGTH_MAX:
        most = REASON_LENGTH_MAX
        raise InvalidInput(f"reason must be text of at most {most} characters", field="reason")
    return reason


def deadline_of(raw: bytes) -> int:
    """Return how long from now a hold is to go on, in microseconds.

    Raises:
        InvalidInput: No `deadline_s`, or one out of bounds.
    """
    fields = object_of(raw)
    only_known(fields, frozenset({"deadline_s"}))
    found = seconds(fields.get("deadline_s"), "deadline_s", DEADLINE_S_MAX)
    if found is None:
        raise InvalidInput("deadline_s is required: how many seconds from now?", field="deadline_s")
    return round(found * MICROS_PER_SECOND)


def _require_cost(event: UsageEvent) -> None:
    """Refuse a settlement that says neither money nor tokens: it would give the whole hold back.

    Raises:
        InvalidInput: Neither; a call that failed may have used nothing.
    """
    if event.reported_nusd is None and not event.is_error and not event.tokens_total:
        raise InvalidInput(
            'say what the call cost, as cost_usd or as counts in usage; a free one has "cost_usd": "0"',
            field="cost_usd",
        )


def _figures(counts: _Counts) -> tuple[int, ...]:
    c = counts
    return (
        c.input_tokens, c.output_tokens, c.reasoning_tokens,
        c.cache_read_tokens, c.cache_write_5m_tokens, c.cache_write_1h_tokens,
    )  # fmt: skip


def _subject(body: _SettleBody, api_key: int) -> Subject:
    provider = checks.name(body.provider, "provider") if body.provider else NO_TEXT
    model = checks.name(body.model, "model") if body.model else NO_TEXT
    return Subject(NO_TEXT, provider, model, api_key=api_key)


def _careful(raw: bytes, hold_id: bytes, *, header_key: str | None, api_key: int, now: int) -> Settlement:
    """Read a settlement as the native door reads an event."""
    fields = object_of(raw)
    usage = fields.pop("usage", None)
    if usage is not None:
        fields = _with_usage(fields, usage)
    named = {name: checks.optional_name(fields.get(name), name) for name in _KNOWN_BY_HOLD}
    key = fields.get("idempotency_key")
    if header_key is not None:
        fields["idempotency_key"] = key_text_of(key if isinstance(key, str) else None, header_key)
    event = event_from_object(fields | {name: "-" for name, text in named.items() if not text}, now=now)
    has_key = fields.get("idempotency_key") is not None or fields.get("key_hex") is not None
    subject = event.subject
    own = msgspec.structs.replace(
        event,
        key=event.key if has_key else HOLDS_KEY,
        subject=subject._replace(agent=NO_TEXT, project=NO_TEXT, model=named["model"], api_key=api_key),
        source=Source.HOLD,
        hold=hold_id,
    )
    return Settlement(own, named["agent"], subject.project)


def _with_usage(fields: dict[str, object], usage: object) -> dict[str, object]:
    """Return the fields with the counts of `usage` beside them, as the native form has it.

    Raises:
        InvalidInput: Not an object of counts, or a count that is there already.
    """
    if not isinstance(usage, dict):
        raise InvalidInput('usage must be an object, for example {"input_tokens": 1200}', field="usage")
    only_known(usage, frozenset(checks.COUNT_FIELDS), "usage.")
    if any(name in fields for name in usage):
        raise InvalidInput("send counts in usage or beside it, not both", field="usage")
    for name, value in usage.items():
        if value is not None:
            checks.count(value, f"usage.{name}")
    return {**fields, **usage}
