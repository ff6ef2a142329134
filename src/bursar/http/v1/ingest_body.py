"""The body of POST /v1/ingest: decoded, checked, and turned into `UsageEvent`s.

Three roads to the same events. The fast one decodes the whole batch into structs in one go
and serves bodies whose every item has only known fields of the right type. Where there are
unknown fields besides, the middle one does the same and reads each item once more for what
becomes attributes. Anything else (one bad value) takes the careful one, item by item, which
names index and field of each error. What several roads take, they take with the same
meaning; `tests/attacks/test_two_roads.py` holds them to it.

Counts are disjoint where the caller sends the extra kinds (`cache_read_tokens`, …); the
reference's own two counts are taken as sent.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from bursar.capture import checks
from bursar.core.errors import AppError, InvalidInput
from bursar.core.ids import key_from_text, new_id
from bursar.core.money import nusd_from_decimal
from bursar.core.time import micros_from_datetime
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.http.v1.ingest_item import (
    ITEM_BYTES_MAX,
    KNOWN,
    IngestItem,
    checked_item,
    fields_of,
    splitter,
)
from bursar.web.principal import Principal

CLOCK_AHEAD_MICROS = 300_000_000
"""A caller's time this far ahead of ours is recorded and flagged, never refused or changed."""

CLOCK_BEHIND_MICROS = 35 * 86_400_000_000
"""The same for a time this long ago: disk replays are days old, not months."""

SUBJECTS_CACHED_MAX = 20_000
RUNS_CACHED_MAX = 20_000

Names = tuple[str, str, str, str | None, str | None, str | None, int]
"""agent, provider, model, project, feature, user as sent, and the key's number"""

_INGEST = Source.INGEST
_NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)


class IngestBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The whole body."""

    events: list[IngestItem]


class _OpenItem(IngestItem, forbid_unknown_fields=False, gc=False):
    """An item whose unknown fields are passed over."""


class _OpenBody(msgspec.Struct, gc=False):
    """The whole body, with whatever else is in it."""

    events: list[_OpenItem]


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
    """Decodes bodies; keeps the subjects and runs it has seen, whose texts need no second check."""

    def __init__(self, *, events_max: int) -> None:
        self._events_max = events_max
        self._decode = msgspec.json.Decoder(IngestBody).decode
        self._decode_open = msgspec.json.Decoder(_OpenBody).decode
        self._split = splitter(events_max)
        self._subjects: dict[Names, Subject] = {}
        self._runs: set[str] = set()

    def decode(self, raw: bytes, principal: Principal, now: int) -> Decoded:
        """Return what `raw` holds.

        Raises:
            InvalidInput: Not JSON, no list of events, or more than the allowed number.
        """
        try:
            items = self._decode(raw).events
        except _NOT_DECODED:
            return self._decode_openly(raw, principal, now)
        if not 0 < len(items) <= self._events_max:
            raise _no_batch(self._events_max)
        try:
            events = self._events(items, principal, now)
        except AppError:
            return self._decode_carefully(raw, principal, now)
        return Decoded(events, range(len(events)), [])

    def _decode_openly(self, raw: bytes, principal: Principal, now: int) -> Decoded:
        """Decode a body whose items may have unknown fields; on any fault, carefully."""
        try:
            parts = self._split(raw)
            events = self._events(self._decode_open(raw).events, principal, now)
            if not events or max(map(len, parts)) > ITEM_BYTES_MAX:
                return self._decode_carefully(raw, principal, now)
            events = [
                _with_unknown(event, fields_of(part)) for event, part in zip(events, parts, strict=True)
            ]
        except (*_NOT_DECODED, AppError):
            return self._decode_carefully(raw, principal, now)
        return Decoded(events, range(len(events)), [])

    def _events(self, items: Sequence[IngestItem], principal: Principal, now: int) -> list[UsageEvent]:
        """Return the events of well-typed items; names are checked when first seen.

        The hot loop of the door. Only what nearly every item has is passed to `UsageEvent`
        at once, since each keyword costs; the rest is added where an item has any of it.

        Raises:
            InvalidInput: A value is out of range, or a name malformed.
        """
        subjects, runs, api_key = self._subjects_of(principal), self._runs, principal.api_key
        earliest, latest = now - CLOCK_BEHIND_MICROS, now + CLOCK_AHEAD_MICROS
        events: list[UsageEvent] = []
        agent = provider = model = project = feature = user = subject = None
        run: str | None = None
        for item in items:
            # Neighbours mostly share everything: comparing costs less than looking up.
            if not (
                item.agent_name == agent and item.model == model and item.user == user
                and item.feature == feature and item.project == project and item.provider == provider
                and subject is not None
            ):  # fmt: skip
                agent, provider, model = item.agent_name, item.provider, item.model
                project, feature, user = item.project, item.feature, item.user
                names = (agent, provider, model, project, feature, user, api_key)
                subject = subjects.get(names) or _subject(names, principal, subjects)
            if item.run_id != run:
                run = item.run_id
                if run and run not in runs:
                    self._see_run(run)
            key = item.idempotency_key
            at = micros_from_datetime(item.timestamp)
            event = UsageEvent(
                key=key_from_text(key) if key else new_id(),
                occurred_at=at,
                subject=subject,
                source=_INGEST,
                input_tokens=item.input_tokens,
                output_tokens=item.output_tokens,
                duration_ms=item.duration_ms or 0,
                reported_nusd=nusd_from_decimal(item.cost),
                is_error=item.status == "error",
                run=run or "",
            )
            is_suspect = not earliest <= at <= latest
            if (
                is_suspect or item.prompt or item.cache_read_tokens or item.cache_write_5m_tokens
                or item.cache_write_1h_tokens or item.reasoning_tokens or item.parent_run_id
                or item.session_id or item.partial or item.revision
            ):  # fmt: skip
                event = _with_extras(event, item, is_suspect=is_suspect)
            events.append(event)
        return events

    def _subjects_of(self, principal: Principal) -> dict[Names, Subject]:
        """Return the subjects seen: of all free keys together, of a bound key in this request only.

        Key numbers count up in each organisation, so a free key's subject must not let one of
        another organisation pass whose key of the same number is bound.
        """
        return {} if principal.agent or principal.project else self._subjects

    def _see_run(self, run: str) -> None:
        """Check a run id seen for the first time.

        Raises:
            InvalidInput: It is malformed.
        """
        checks.name(run, "run_id")
        if len(self._runs) >= RUNS_CACHED_MAX:
            self._runs.clear()
        self._runs.add(run)

    def _decode_carefully(self, raw: bytes, principal: Principal, now: int) -> Decoded:
        """Decode item by item, keeping what is good."""
        items = self._items(raw)
        if not items:
            raise _no_batch(self._events_max)
        decoded = Decoded([], [], [])
        positions: list[int] = []
        for index, item in enumerate(items):
            try:
                decoded.events.append(self._careful_event(item, principal, now))
                positions.append(index)
            except AppError as error:
                decoded.errors.append(ItemError(index, error.field or "", error.detail))
        return decoded._replace(positions=positions)

    def _items(self, raw: bytes) -> list[Raw]:
        """Return the items of a body, unread.

        Raises:
            InvalidInput: Not JSON, or not an object with a list of allowed length.
        """
        try:
            return self._split(raw)
        except msgspec.ValidationError:
            raise _no_batch(self._events_max) from None
        except RecursionError:
            raise InvalidInput("the JSON is nested too deeply") from None
        except msgspec.MsgspecError as error:
            whole = checks.without_lone_surrogates(raw)
            if whole != raw:
                return self._items(whole)
            raise InvalidInput(f"the body must be valid JSON: {error}") from None

    def _careful_event(self, raw: Raw, principal: Principal, now: int) -> UsageEvent:
        """Return the event of one item of unknown quality."""
        item = fields_of(raw)
        checked = checked_item(item)
        return _with_unknown(self._events([checked], principal, now)[0], item)


def _with_unknown(event: UsageEvent, item: Mapping[str, object]) -> UsageEvent:
    """Return the event with the item's unknown fields as attributes."""
    unknown = {key: value for key, value in item.items() if key not in KNOWN}
    if not unknown:
        return event
    merged = checks.attributes({**unknown, **(event.attributes or {})}, "attributes")
    return msgspec.structs.replace(event, attributes=merged)


def _subject(names: Names, principal: Principal, subjects: dict[Names, Subject]) -> Subject:
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
    if len(subjects) >= SUBJECTS_CACHED_MAX:
        subjects.clear()
    subjects[names] = subject
    return subject


def _with_extras(event: UsageEvent, item: IngestItem, *, is_suspect: bool) -> UsageEvent:
    return msgspec.structs.replace(
        event,
        reasoning_tokens=item.reasoning_tokens,
        cache_read_tokens=item.cache_read_tokens,
        cache_write_5m_tokens=item.cache_write_5m_tokens,
        cache_write_1h_tokens=item.cache_write_1h_tokens,
        parent_run=checks.optional_name(item.parent_run_id, "parent_run_id"),
        session=checks.optional_name(item.session_id, "session_id"),
        clock_suspect=is_suspect,
        revision=item.revision,
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


def _no_batch(most: int) -> InvalidInput:
    sentence = f'the body must be {{"events": [...]}} with 1 to {most} events; split a larger batch'
    return InvalidInput(sentence, field="events")
