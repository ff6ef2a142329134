"""Which column of a table says what: the mapping that a person writes, checked once.

`tabular` reads rows and asks a `TableMapping` for each row's values. A mapping is made
of texts such as `input_tokens=ContextTokens` (field = column) and constants such as
`agent=code-completion`. Cells are taken strictly: a thousands comma or a time without a
zone is refused with a hint, never guessed.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from bursar.capture import checks
from bursar.core.errors import InvalidInput
from bursar.core.time import micros_from_datetime, micros_from_text
from bursar.core.usage import NO_TEXT, TOKENS_MAX, Billing, ServiceTier
from bursar.core.zones import parse_zone

ATTRIBUTE_PREFIX = "attributes."
INPUT_INCLUSIVE = "input_tokens_with_cached"
OUTPUT_INCLUSIVE = "output_tokens_with_reasoning"

_NAME_FIELDS = (
    "agent",
    "provider",
    "model",
    "project",
    "feature",
    "user",
    "run_id",
    "parent_run_id",
    "session_id",
)
_TIME_FIELDS = ("occurred_at", "occurred_at_s", "occurred_at_ms")
_REQUIRED = ("agent", "model")
_MEASURES = (*checks.COUNT_FIELDS, INPUT_INCLUSIVE, OUTPUT_INCLUSIVE, "cost_usd")

_WHOLE = re.compile(r"([0-9]{1,18})(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:[,_ '.\u00a0\u202f][0-9]{3})+")
_NAIVE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(\.[0-9]{1,30})?)?"
)
_ZONED_TIME = re.compile(r"(\S+)[Tt ](\S+?) ?(?:([Zz])|UTC|GMT|([+-][0-9]{2})(?::?([0-9]{2}))?)")

Convert = Callable[[object, str, ZoneInfo | None], object]


class TableMapping(NamedTuple):
    """A checked mapping; make it with `mapping_from_texts`.

    Attributes:
        columns: Field name → column name.
        fixed: Field name → value, for constants.
        zone: Zone of times that name none; None refuses them.
        key_column: Column whose text is the event's idempotency key; None derives keys.
        identity: 16 bytes over all of the above: equal mappings give equal event keys.
    """

    columns: Mapping[str, str]
    fixed: Mapping[str, object]
    zone: ZoneInfo | None
    key_column: str | None
    identity: bytes

    @property
    def columns_needed(self) -> list[str]:
        """Every column a table must have, the key's among them."""
        key = [] if self.key_column is None else [self.key_column]
        return list(dict.fromkeys([*self.columns.values(), *key]))

    @property
    def settings(self) -> str:
        """A text over the mapping, for `ImportCursor`: under another one the files count as unread."""
        return self.identity.hex()

    def values_of(self, cell: Callable[[str], object]) -> dict[str, object]:
        """Return field → checked value of one row; `cell` gives a column's raw value.

        Raises:
            InvalidInput: A cell is wrong; `field` is the *column* it stands in.
        """
        values = dict(self.fixed)
        for name, column in self.columns.items():
            try:
                values[name] = converter_of(name)(cell(column), name, self.zone)
            except InvalidInput as error:
                raise InvalidInput(error.detail, field=column) from None
        self._require_a_measure(values, cell)
        return values

    def _require_a_measure(self, values: Mapping[str, object], cell: Callable[[str], object]) -> None:
        """Refuse a row that says nothing of use: most likely the mapping is wrong, not the call free."""
        if values.get("status") or values.get("error") or not self.fixed.keys().isdisjoint(_MEASURES):
            return
        columns = [column for name, column in self.columns.items() if name in _MEASURES]
        if all(cell(column) in (None, NO_TEXT) for column in columns):
            raise InvalidInput(f"nothing stands in {', '.join(columns)}")


def mapping_from_texts(
    columns: Sequence[str],
    constants: Sequence[str],
    *,
    zone_name: str | None = None,
    key_column: str | None = None,
) -> TableMapping:
    """Return the mapping that texts like `input_tokens=ContextTokens` describe.

    Args:
        columns: `field=column` each.
        constants: `field=value` each, for what no column says.
        zone_name: IANA name of the zone of times that name none.
        key_column: Column that holds an id unique in the organisation.

    Raises:
        InvalidInput: Unknown field, a field given twice, a required one missing (a time,
            agent, model, and some count or cost), or a constant that is no such value.
    """
    zone = None if zone_name is None else parse_zone(zone_name, field="tz")
    by_column = _pairs(columns, "map")
    texts = _pairs(constants, "set")
    _require(by_column, texts)
    fixed = {name: converter_of(name)(text, name, zone) for name, text in texts.items()}
    said = (sorted(by_column.items()), sorted(texts.items()), zone and zone.key, key_column)
    identity = hashlib.blake2b(msgspec.json.encode(said), digest_size=16).digest()
    return TableMapping(by_column, fixed, zone, key_column, identity)


def converter_of(name: str) -> Convert:
    """Return what turns a cell into the value of field `name`.

    Raises:
        InvalidInput: No such field; the sentence lists all.
    """
    if name.startswith(ATTRIBUTE_PREFIX) and len(name) > len(ATTRIBUTE_PREFIX):
        return _attribute
    if name not in _CONVERTERS:
        known = ", ".join(_CONVERTERS)
        raise InvalidInput(f"there is no field {name!r}; fields are {known}, attributes.NAME", field=name)
    return _CONVERTERS[name]


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise InvalidInput(f"--{option} {text!r} must be FIELD=VALUE", field=option)
        if name.strip() in pairs:
            raise InvalidInput(f"--{option} names {name.strip()} twice", field=option)
        converter_of(name.strip())
        pairs[name.strip()] = value.strip()
    return pairs


def _require(columns: Mapping[str, str], constants: Mapping[str, str]) -> None:
    twice = sorted(set(columns) & set(constants))
    if twice:
        raise InvalidInput(f"{twice[0]} is both mapped and a constant", field=twice[0])
    given = {*columns, *constants}
    for name in _REQUIRED:
        if name not in given:
            raise InvalidInput(f"map {name} to a column or give it as a constant", field=name)
    times = [name for name in _TIME_FIELDS if name in given]
    if len(times) != 1:
        raise InvalidInput(f"map exactly one of {', '.join(_TIME_FIELDS)}", field="occurred_at")
    if given.isdisjoint(_MEASURES):
        raise InvalidInput("map at least one count of tokens or a cost", field="input_tokens")
    for inclusive, plain in ((INPUT_INCLUSIVE, "input_tokens"), (OUTPUT_INCLUSIVE, "output_tokens")):
        if {inclusive, plain} <= given:
            raise InvalidInput(f"{inclusive} takes the place of {plain}", field=inclusive)


def _text(value: object, name: str) -> str:
    """Return a cell as text; numbers of a JSON line are written out, nothing is empty text."""
    if value is None:
        return NO_TEXT
    if isinstance(value, str):
        return value.strip()
    if type(value) is int or isinstance(value, Decimal):
        return str(value)
    raise InvalidInput(f"{name} must be text or a number", field=name)


def _name(value: object, name: str, _zone: ZoneInfo | None) -> object:
    text = _text(value, name)
    return checks.name(text, name) if name in _REQUIRED else checks.optional_name(text, name)


def _whole(value: object, name: str, maximum: int) -> int:
    text = _text(value, name)
    if not text:
        return 0
    match = _WHOLE.fullmatch(text)
    if match is not None:
        return checks.count(int(match[1]), name, maximum)
    if _GROUPED.fullmatch(text):
        raise InvalidInput(f"{text!r} must be written without thousands separators", field=name)
    raise InvalidInput(f"{text[:40]!r} must be a whole number, 0 or more", field=name)


def _count(value: object, name: str, _zone: ZoneInfo | None) -> object:
    return _whole(value, name, TOKENS_MAX)


def _revision(value: object, name: str, _zone: ZoneInfo | None) -> object:
    return _whole(value, name, checks.REVISION_MAX)


def _number(value: object, name: str) -> Decimal | None:
    text = _text(value, name)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        hint = "without thousands separators or a currency sign, with a decimal point"
        raise InvalidInput(f"{text[:40]!r} must be a plain number, {hint}", field=name)
    return Decimal(text)


def _cost(value: object, name: str, _zone: ZoneInfo | None) -> object:
    return checks.cost_nusd(_number(value, name), name)


def _milliseconds(value: object, name: str, _zone: ZoneInfo | None) -> object:
    number = _number(value, name) or Decimal(0)
    per_unit = 1000 if name.endswith("_s") else 1
    return checks.duration_ms(number * per_unit, name, fractional=True)


def _time(value: object, name: str, zone: ZoneInfo | None) -> object:
    text = _text(value, name)
    if not text:
        raise InvalidInput("a time must stand here", field=name)
    if name != "occurred_at":
        return _time_of_epoch(text, name)
    zoned = _ZONED_TIME.fullmatch(text)
    if zoned is not None:
        day, clock, _, hours, minutes = zoned.groups()
        offset = "Z" if hours is None else f"{hours}:{minutes or '00'}"
        return micros_from_text(f"{day}T{clock}{offset}", field=name)
    naive = _NAIVE_TIME.fullmatch(text)
    if naive is None:
        example = "2026-03-01T14:00:00Z or 2026-03-01 14:00:00"
        raise InvalidInput(f"{text[:40]!r} must be a time such as {example}", field=name)
    if zone is None:
        raise InvalidInput("the time names no zone; say which with --tz, for example --tz UTC", field=name)
    return _time_in_zone(naive, zone, name)


def _time_in_zone(naive: re.Match[str], zone: ZoneInfo, name: str) -> int:
    """Return a wall-clock time of `zone`; of a doubled hour the first, digits beyond µs cut."""
    micros = (naive[3] or ".0")[:7]
    try:
        moment = datetime.fromisoformat(f"{naive[1]}T{_with_seconds(naive[2])}{micros:0<7}")
    except ValueError:
        raise InvalidInput(f"{naive[0]!r} is no day and time of the calendar", field=name) from None
    return micros_from_datetime(moment.replace(tzinfo=zone), field=name)


def _with_seconds(clock: str | None) -> str:
    if clock is None:
        return "00:00:00"
    return clock if len(clock) == len("00:00:00") else f"{clock}:00"


def _time_of_epoch(text: str, name: str) -> int:
    number = _number(text, name) or Decimal(0)
    micros = number * (1_000_000 if name.endswith("_s") else 1_000)
    if not 0 <= micros < Decimal("253402300800e6"):
        raise InvalidInput(f"{text[:40]!r} must lie in the years 1970 to 9999", field=name)
    return int(micros)


def _choice(choices: Mapping[str, object], default: object) -> Convert:
    def convert(value: object, name: str, _zone: ZoneInfo | None) -> object:
        text = _text(value, name).lower()
        return checks.choice(text, name, choices) if text else default

    return convert


def _error(value: object, name: str, _zone: ZoneInfo | None) -> object:
    return _text(value, name)[: checks.ERROR_LENGTH_MAX]


def _attribute(value: object, _name: str, _zone: ZoneInfo | None) -> object:
    return None if value == NO_TEXT else value


_CONVERTERS: dict[str, Convert] = {
    **dict.fromkeys(_TIME_FIELDS, _time),
    **dict.fromkeys(_NAME_FIELDS, _name),
    **dict.fromkeys((*checks.COUNT_FIELDS, INPUT_INCLUSIVE, OUTPUT_INCLUSIVE), _count),
    "cost_usd": _cost,
    "duration_ms": _milliseconds,
    "duration_s": _milliseconds,
    "status": _choice(checks.STATUSES, default=False),
    "error": _error,
    "billing": _choice(checks.BILLINGS, Billing.METERED),
    "service_tier": _choice(checks.SERVICE_TIERS, ServiceTier.STANDARD),
    "revision": _revision,
}
