"""The body of POST /v1/ingest: decoded, checked, and turned into `UsageEvent`s.

Two roads to the same events. The fast one decodes the whole batch into structs in one go
and serves bodies whose every item has only known fields of the right type. Anything else
(an unknown field, one bad value) takes the careful one, item by item, which keeps unknown
fields as attributes and names index and field of each error.

Counts are disjoint where the caller sends the extra kinds (`cache_read_tokens`, …); the
reference's own two counts are taken as sent.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from bursar.capture import checks
from bursar.core.errors import AppError, InvalidInput
from bursar.core.ids import key_from_text, new_id
from bursar.core.money import nusd_from_decimal
from bursar.core.time import micros_from_datetime
from bursar.core.usage import TOKENS_MAX, Source, Subject, UsageEvent
from bursar.web.principal import Principal

CLOCK_AHEAD_MICROS = 300_000_000
"""A caller's time this far ahead of ours is recorded and flagged, never refused or changed."""

CLOCK_BEHIND_MICROS = 35 * 86_400_000_000
"""The same for a time this long ago: disk replays are days old, not months."""

SUBJECTS_CACHED_MAX = 20_000

_Name = Annotated[str, Meta(min_length=1, max_length=checks.NAME_LENGTH_MAX)]
_Key = Annotated[str, Meta(max_length=checks.NAME_LENGTH_MAX)]
_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
_Duration = Annotated[int, Meta(ge=0, le=checks.DURATION_MS_MAX)]
Names = tuple[str, str, str, str | None, str | None, str | None, int]
"""agent, provider, model, project, feature, user as sent, and the key's number"""

_INGEST = Source.INGEST
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IngestItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One item as the reference has it, with the fields that its clients and ours add."""

    agent_name: _Name
    provider: _Name
    model: _Name
    input_tokens: _Count
    output_tokens: _Count
    cost: Decimal
    timestamp: Annotated[datetime, Meta(tz=True)]
    duration_ms: _Duration | None = 0
    idempotency_key: _Key | None = None
    run_id: _Key | None = None
    status: str | None = None
    prompt: str | None = None
    partial: bool | None = None
    cache_read_tokens: _Count = 0
    cache_write_5m_tokens: _Count = 0
    cache_write_1h_tokens: _Count = 0
    reasoning_tokens: _Count = 0
    project: _Key | None = None
    feature: _Key | None = None
    user: _Key | None = None
    parent_run_id: _Key | None = None
    session_id: _Key | None = None


class IngestBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The whole body."""

    events: list[IngestItem]


class ItemError(NamedTuple):
    """What is wrong with one item: its position in the batch, the field, and what to do."""

    position: int
    field: str
    message: str


class Decoded(NamedTuple):
    """A body's good events, their positions in it, and what is wrong with the others."""

    events: list[UsageEvent]
    positions: list[int] | range
    errors: list[ItemError]


class IngestDecoder:
    """Decodes bodies; keeps the subjects it has seen, whose names need no second check."""

    def __init__(self, *, events_max: int) -> None:
        self._events_max = events_max
        self._decode = msgspec.json.Decoder(IngestBody).decode
        self._subjects: dict[Names, Subject] = {}

    def decode(self, raw: bytes, principal: Principal, now: int) -> Decoded:
        """Return what `raw` holds.

        Raises:
            InvalidInput: Not JSON, no list of events, or more than the allowed number.
        """
        try:
            items = self._decode(raw).events
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._decode_carefully(raw, principal, now)
        if not items:
            raise _no_batch()
        if len(items) > self._events_max:
            raise _too_many(len(items), self._events_max)
        try:
            events = self._events(items, principal, now)
        except AppError:
            return self._decode_carefully(raw, principal, now)
        return Decoded(events, range(len(events)), [])

    def _events(self, items: list[IngestItem], principal: Principal, now: int) -> list[UsageEvent]:
        """Return the events of well-typed items; names are checked when first seen.

        The hot loop of the door. Only what nearly every item has is passed to `UsageEvent`
        at once, since each keyword costs; the rest is added where an item has any of it.

        Raises:
            InvalidInput: A value is out of range, or a name malformed.
        """
        subjects, api_key = self._subjects, principal.api_key
        earliest, latest = now - CLOCK_BEHIND_MICROS, now + CLOCK_AHEAD_MICROS
        events: list[UsageEvent] = []
        for item in items:
            names = (
                item.agent_name, item.provider, item.model, item.project, item.feature, item.user, api_key,
            )  # fmt: skip
            key = item.idempotency_key
            at = micros_from_datetime(item.timestamp)
            event = UsageEvent(
                key=key_from_text(key) if key else new_id(),
                occurred_at=at,
                subject=subjects.get(names) or self._subject(names, principal),
                source=_INGEST,
                input_tokens=item.input_tokens,
                output_tokens=item.output_tokens,
                duration_ms=item.duration_ms or 0,
                reported_nusd=nusd_from_decimal(item.cost),
                is_error=item.status == "error",
                run=item.run_id or "",
            )
            is_suspect = not earliest <= at <= latest
            if (
                is_suspect or item.prompt or item.cache_read_tokens or item.cache_write_5m_tokens
                or item.cache_write_1h_tokens or item.reasoning_tokens or item.parent_run_id
                or item.session_id or item.partial
            ):  # fmt: skip
                event = _with_extras(event, item, is_suspect=is_suspect)
            events.append(event)
        return events

    def _subject(self, names: Names, principal: Principal) -> Subject:
        """Check and keep a subject seen for the first time, bound to what the key is bound to.

        Raises:
            InvalidInput: A name is malformed, or not the one that the key is bound to.
        """
        agent, provider, model, project, feature, user, api_key = names
        subject = Subject(
            bound(checks.name(agent, "agent_name"), principal.agent, "agent_name"),
            checks.name(provider, "provider"),
            checks.name(model, "model"),
            bound(checks.optional_name(project, "project"), principal.project, "project"),
            checks.optional_name(feature, "feature"),
            checks.optional_name(user, "user"),
            api_key,
        )
        if len(self._subjects) >= SUBJECTS_CACHED_MAX:
            self._subjects.clear()
        self._subjects[names] = subject
        return subject

    def _decode_carefully(self, raw: bytes, principal: Principal, now: int) -> Decoded:
        """Decode item by item, keeping what is good."""
        body = checks.decode_json(raw)
        items = body.get("events") if isinstance(body, dict) else None
        if not isinstance(items, list) or not items:
            raise _no_batch()
        if len(items) > self._events_max:
            raise _too_many(len(items), self._events_max)
        decoded = Decoded([], [], [])
        positions: list[int] = []
        for index, item in enumerate(items):
            try:
                decoded.events.append(self._careful_event(item, principal, now))
                positions.append(index)
            except AppError as error:
                decoded.errors.append(ItemError(index, error.field or "", error.detail))
        return decoded._replace(positions=positions)

    def _careful_event(self, item: object, principal: Principal, now: int) -> UsageEvent:
        """Return the event of one decoded item of unknown quality."""
        if not isinstance(item, dict):
            raise InvalidInput("each event must be an object")
        checked = _checked(item)
        event = self._events([checked], principal, now)[0]
        unknown = {key: value for key, value in item.items() if key not in _KNOWN}
        if not unknown:
            return event
        merged = checks.attributes({**unknown, **(event.attributes or {})}, "attributes")
        return msgspec.structs.replace(event, attributes=merged)


def _with_extras(event: UsageEvent, item: IngestItem, *, is_suspect: bool) -> UsageEvent:
    return msgspec.structs.replace(
        event,
        reasoning_tokens=item.reasoning_tokens,
        cache_read_tokens=item.cache_read_tokens,
        cache_write_5m_tokens=item.cache_write_5m_tokens,
        cache_write_1h_tokens=item.cache_write_1h_tokens,
        parent_run=item.parent_run_id or "",
        session=item.session_id or "",
        clock_suspect=is_suspect,
        attributes={"partial": True} if item.partial else None,
        prompt=checks.prompt(item.prompt, "prompt") if item.prompt else None,
    )


def bound(given: str, binding: str, field: str) -> str:
    """Return what counts: the key's binding where it has one, else what was given.

    Raises:
        InvalidInput: The key is bound to something else.
    """
    if binding and given not in {"", binding}:
        raise InvalidInput(f"{field} must be {binding!r}: this key is bound to it", field=field)
    return binding or given


_KNOWN = frozenset(IngestItem.__struct_fields__)
_COUNT_FIELDS = tuple(name for name in IngestItem.__struct_fields__ if name.endswith("_tokens"))
_TEXT_FIELDS = ("idempotency_key", "run_id", "project", "feature", "user", "parent_run_id", "session_id")


def _checked(item: Mapping[str, object]) -> IngestItem:
    """Return the item as a struct.

    Raises:
        InvalidInput: The first field at fault, with what it must be.
    """
    for field in ("agent_name", "provider", "model", "input_tokens", "output_tokens", "cost", "timestamp"):
        if item.get(field) is None:
            raise InvalidInput(f"{field} is required", field=field)
    counts = {name: checks.count(item[name], name) for name in _COUNT_FIELDS if item.get(name) is not None}
    texts = {name: checks.optional_name(item.get(name), name) or None for name in _TEXT_FIELDS}
    cost = checks.cost_nusd(item["cost"], "cost")
    status = item.get("status")
    return IngestItem(
        agent_name=checks.name(item["agent_name"], "agent_name"),
        provider=checks.name(item["provider"], "provider"),
        model=checks.name(item["model"], "model"),
        input_tokens=counts.pop("input_tokens"),
        output_tokens=counts.pop("output_tokens"),
        cost=Decimal(cost or 0).scaleb(-9),
        timestamp=_moment(checks.occurred_at(item["timestamp"], "timestamp")),
        duration_ms=checks.duration_ms(item.get("duration_ms") or 0, "duration_ms", fractional=True),
        status=status if isinstance(status, str) else None,
        prompt=checks.prompt(item.get("prompt"), "prompt"),
        partial=item.get("partial") is True,
        **counts,  # type: ignore[arg-type] # keys are count fields by construction
        **texts,  # type: ignore[arg-type] # keys are text fields by construction
    )


def _moment(micros: int) -> datetime:
    """Return an aware datetime; `micros` came from one, so it fits."""
    return _EPOCH + timedelta(microseconds=micros)


def _no_batch() -> InvalidInput:
    return InvalidInput('the body must be {"events": [...]} with at least one event', field="events")


def _too_many(count: int, most: int) -> InvalidInput:
    return InvalidInput(f"a batch has at most {most} events, this one {count}; split it", field="events")
