"""One item of POST /v1/ingest: its form, and reading it when its quality is unknown.

The batch is first split into items without building any of their values, so that neither a
million empty items nor a million unknown fields cost more than being skipped. Not here:
the decoder of whole batches and what an item becomes (`ingest_body`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from bursar.capture import checks
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.money import nusd_from_decimal
from bursar.core.usage import TOKENS_MAX

ITEM_BYTES_MAX = 64 * 1024
"""Bytes of one item up to which its unknown fields are read; they are kept to 4 KiB anyway."""

_Name = Annotated[str, Meta(min_length=1, max_length=checks.NAME_LENGTH_MAX)]
_Key = Annotated[str, Meta(max_length=checks.NAME_LENGTH_MAX)]
_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
_Duration = Annotated[int, Meta(ge=0, le=checks.DURATION_MS_MAX)]
_Revision = Annotated[int, Meta(ge=0, le=checks.REVISION_MAX)]
_Moment = Annotated[datetime, Meta(tz=True)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT = Raw(b"")
_NESTED = (b"[", b"{")


class IngestItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One item as the reference has it, with the fields that its clients and ours add."""

    agent_name: _Name
    provider: _Name
    model: _Name
    input_tokens: _Count
    output_tokens: _Count
    cost: Decimal
    timestamp: _Moment
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
    revision: _Revision = 0


def splitter(events_max: int) -> Callable[[bytes], list[Raw]]:
    """Return a function that splits a body into its items, skipping over what is in them.

    A list type would be built whole before its length is looked at; an array-like struct
    refuses the first item beyond its fields.
    """
    fields = [(f"item_{index}", Raw, _ABSENT) for index in range(events_max)]
    items = msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True)
    decode = msgspec.json.Decoder(msgspec.defstruct("SplitBody", [("events", items)])).decode

    def split(raw: bytes) -> list[Raw]:
        values = msgspec.structs.astuple(getattr(decode(raw), "events"))  # noqa: B009 - a made type
        return [value for value in values if value is not _ABSENT]

    return split


KNOWN = frozenset(IngestItem.__struct_fields__)
_COUNT_FIELDS = tuple(name for name in IngestItem.__struct_fields__ if name.endswith("_tokens"))
_TEXT_FIELDS = ("run_id", "project", "feature", "user", "parent_run_id", "session_id")
_decode_known = msgspec.json.Decoder(
    msgspec.defstruct("KnownFields", [(name, Raw, _ABSENT) for name in IngestItem.__struct_fields__])
).decode


def fields_of(raw: Raw) -> dict[str, object]:
    """Return the fields of one item; of a very large one, those that have a meaning.

    Raises:
        InvalidInput: Not an object, or a field beyond all bounds.
    """
    if len(raw) <= ITEM_BYTES_MAX:
        item = checks.decode_json(bytes(raw))
        if not isinstance(item, dict):
            raise InvalidInput("each event must be an object")
        return item
    try:
        known = msgspec.structs.asdict(_decode_known(raw))
    except msgspec.MsgspecError:
        raise InvalidInput("each event must be an object") from None
    fields = {name: _value(value, name) for name, value in known.items() if value is not _ABSENT}
    return {**fields, checks.TRUNCATED: True}


def _value(raw: Raw, field: str) -> object:
    """Return one field of a very large item; a list or an object cannot be what makes it large.

    Raises:
        InvalidInput: It is.
    """
    text = bytes(raw)
    if len(raw) > ITEM_BYTES_MAX and text[:1] in _NESTED:
        raise InvalidInput(f"{field} is too long", field=field)
    return checks.decode_json(text)


def checked_item(item: Mapping[str, object]) -> IngestItem:
    """Return the item as a struct.

    Raises:
        InvalidInput: The first field at fault, with what it must be.
    """
    for field in ("agent_name", "provider", "model", "input_tokens", "output_tokens", "cost", "timestamp"):
        if item.get(field) is None:
            raise InvalidInput(f"{field} is required", field=field)
    counts = {name: checks.count(item[name], name) for name in _COUNT_FIELDS if item.get(name) is not None}
    texts = {name: checks.optional_name(item.get(name), name) or None for name in _TEXT_FIELDS}
    status = item.get("status")
    return IngestItem(
        agent_name=checks.name(item["agent_name"], "agent_name"),
        provider=checks.name(item["provider"], "provider"),
        model=checks.name(item["model"], "model"),
        input_tokens=counts.pop("input_tokens"),
        output_tokens=counts.pop("output_tokens"),
        cost=_cost(item["cost"]),
        timestamp=_moment(item["timestamp"]),
        duration_ms=checks.duration_ms(_duration(item), "duration_ms", fractional=True),
        idempotency_key=_key(item.get("idempotency_key")),
        status=status if isinstance(status, str) else None,
        prompt=checks.prompt(item.get("prompt"), "prompt"),
        partial=item.get("partial") is True,
        revision=checks.count(item.get("revision") or 0, "revision", checks.REVISION_MAX),
        **counts,  # type: ignore[arg-type] # keys are count fields by construction
        **texts,  # type: ignore[arg-type] # keys are text fields by construction
    )


def _cost(value: object) -> Decimal:
    """Return a cost as the fast road reads it, which takes a number's text as well.

    Raises:
        InvalidInput: No money.
    """
    try:
        amount_usd = Decimal(value) if isinstance(value, str) else value
    except ArithmeticError:
        amount_usd = None
    if isinstance(amount_usd, Decimal) or type(amount_usd) is int:
        try:
            return Decimal(nusd_from_decimal(Decimal(amount_usd))).scaleb(-9)
        except InvalidAmount as error:
            raise InvalidAmount(f"cost {error.detail}", field="cost") from None
    raise InvalidAmount("cost must be a number of US dollars", field="cost")


def _duration(item: Mapping[str, object]) -> object:
    value = item.get("duration_ms")
    return 0 if value is None else value


def _key(value: object) -> str | None:
    """Return an idempotency key: any text, since it is hashed and never shown.

    Raises:
        InvalidInput: Not text, or too long.
    """
    if value is None or (isinstance(value, str) and len(value) <= checks.NAME_LENGTH_MAX):
        return value
    most = checks.NAME_LENGTH_MAX
    raise InvalidInput(f"idempotency_key must be text of at most {most} characters", field="idempotency_key")


def _moment(value: object) -> datetime:
    """Return a time as the fast road reads it; what only RFC 3339 knows (a leap second) besides.

    Raises:
        InvalidInput: No time, or one without a zone.
    """
    try:
        return msgspec.convert(value, _Moment)
    except msgspec.ValidationError:
        return _EPOCH + timedelta(microseconds=checks.occurred_at(value, "timestamp"))
