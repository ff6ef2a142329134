"""The rules every door shares: what a name, a count, a time or a cost may look like.

Called by `capture` and by the JSON routes on values that a decoder gave, so each takes
`object` and either returns the checked value or raises `InvalidInput` with the field's
name. Nothing here knows a particular format, and nothing is repaired silently, but for
two bounds that keep what is paid for: long prompts and large attributes are cut.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from bursar.core.errors import InvalidAmount, InvalidInput, TooLarge
from bursar.core.money import nusd_from_decimal, nusd_from_text
from bursar.core.time import micros_from_text
from bursar.core.usage import NO_TEXT, TOKENS_MAX, Billing, ServiceTier

NAME_LENGTH_MAX = 256
"""Characters of an agent, model, project or similar name."""

DURATION_MS_MAX = 2**31 - 1
"""Longest call: about 24 days, what 32 bits hold."""

REVISION_MAX = 2**53 - 1
"""Highest revision: what a JSON number carries exactly everywhere."""

VALUES_MAX = 500_000
"""Values of one JSON text, told by its commas: some 0.2 s and 100 MB at the very most."""

ATTRIBUTES_BYTES_MAX = 4096
"""Bytes of JSON that one event may carry besides its columns."""

ATTRIBUTES_DEPTH_MAX = 32
"""Levels of lists and objects kept; deeper ones could not be read again everywhere."""

PROMPT_LENGTH_MAX = 2048
"""Characters of a prompt that are kept."""

COUNT_FIELDS = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "web_searches",
)
"""The counts of a `UsageEvent`, by their names there."""

BILLINGS = {"metered": Billing.METERED, "subscription": Billing.SUBSCRIPTION}
SERVICE_TIERS = {
    "standard": ServiceTier.STANDARD,
    "batch": ServiceTier.BATCH,
    "flex": ServiceTier.FLEX,
    "priority": ServiceTier.PRIORITY,
}
STATUSES = {"ok": False, "error": True}
"""Texts of `status`, and whether each is an error."""

ERROR_LENGTH_MAX = 1024
"""Characters of an error text that are kept."""

TRUNCATED = "_truncated"
"""The attribute that says others were dropped for their size."""

_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ESCAPE = re.compile(
    rb"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
_ESCAPES_MAX = 100_000
"""Escapes of backslashes and surrogates looked at to mend one body: some 40 ms at most."""

_JSON = msgspec.json.Decoder(float_hook=Decimal)
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1
"""What a JSON integer may be to be written again; larger ones are kept as text."""

_CUT_ENTRY_BYTES = len(b'{"":true}') + len(TRUNCATED)
_DROPPED = object()

Choice = TypeVar("Choice")


def decode_json(raw: bytes) -> object:
    """Return what `raw` says, with every fractional number as the exact `Decimal`.

    Raises:
        InvalidInput: Not JSON, not UTF-8, nested too deeply, or a number beyond reason.
        TooLarge: More than half a million values; building them would cost a hundred times the text.
    """
    if len(raw) > VALUES_MAX and raw.count(b",") > VALUES_MAX:
        raise TooLarge(f"the JSON has more than {VALUES_MAX} values; send less at once")
    try:
        return _JSON.decode(raw)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidInput("the body must be UTF-8") from None
    except msgspec.MsgspecError as error:
        whole = without_lone_surrogates(raw)
        if whole != raw:
            return decode_json(whole)
        raise InvalidInput(f"the body must be valid JSON: {error}") from None
    except ArithmeticError:
        raise InvalidInput("a number has an exponent beyond reason") from None


def without_lone_surrogates(raw: bytes) -> bytes:
    """Return JSON with U+FFFD in place of each escape that is half a character.

    Languages that count in UTF-16 cut a long text between the halves of an emoji and write
    the rest as it is; it would be a pity to lose a batch for that.
    """
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], raw, count=_ESCAPES_MAX)


def name(value: object, field: str) -> str:
    """Return a required name: 1 to 256 characters, at least one visible, none a control.

    Raises:
        InvalidInput: Not text, empty, too long, or with control characters.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be text", field=field)
    if len(value) > NAME_LENGTH_MAX:
        raise InvalidInput(f"{field} must have at most {NAME_LENGTH_MAX} characters", field=field)
    if not _NAME.fullmatch(value) or value.isspace():
        problem = "must not be empty" if not value.strip() else "must not contain control characters"
        raise InvalidInput(f"{field} {problem}", field=field)
    return value


def optional_name(value: object, field: str) -> str:
    """Return a name as `name` does, or empty text for None and empty text."""
    return NO_TEXT if value is None or value == NO_TEXT else name(value, field)


def count(value: object, field: str, maximum: int = TOKENS_MAX) -> int:
    """Return a whole number from 0 to `maximum`; 5.0 and true are not whole numbers here.

    Raises:
        InvalidInput: Not an integer, negative, or above `maximum`.
    """
    if type(value) is not int:
        raise InvalidInput(f"{field} must be a whole number", field=field)
    if value < 0:
        raise InvalidInput(f"{field} must not be negative", field=field)
    if value > maximum:
        raise InvalidInput(f"{field} must not be above {maximum}", field=field)
    return value


def duration_ms(value: object, field: str, *, fractional: bool = False) -> int:
    """Return milliseconds from 0 to 2³¹-1; with `fractional`, 12.7 is rounded to 13.

    Raises:
        InvalidInput: Not a number, negative, too long, or fractional where it may not be.
    """
    if fractional and isinstance(value, Decimal | float):
        number = Decimal(value)
        if not number.is_finite() or not -1 < number <= DURATION_MS_MAX:
            raise InvalidInput(f"{field} must be from 0 to {DURATION_MS_MAX}", field=field)
        value = round(number) if number >= 0 else -1
    return count(value, field, DURATION_MS_MAX)


def cost_nusd(value: object, field: str) -> int | None:
    """Return a reported cost in nano-USD, None for None.

    Numbers must come as `int` or `Decimal` (`decode_json` does that), so that no binary
    float stands between the text sent and the amount kept.

    Raises:
        InvalidInput: Not a number or decimal text, negative, not finite, or above 9.2e9.
    """
    try:
        if value is None:
            return None
        if isinstance(value, str):
            return nusd_from_text(value)
        if isinstance(value, Decimal) or type(value) is int:
            return nusd_from_decimal(Decimal(value))
    except InvalidAmount as error:
        raise InvalidAmount(f"{field} {error.detail}", field=field) from None
    raise InvalidInput(f"{field} must be a number of US dollars", field=field)


def occurred_at(value: object, field: str) -> int:
    """Return microseconds UTC of an RFC 3339 text with a zone.

    Raises:
        InvalidInput: Not text, not a time, or without a zone.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a time such as 2025-06-01T12:00:00Z", field=field)
    return micros_from_text(value, field=field)


def choice(value: object, field: str, choices: Mapping[str, Choice]) -> Choice:
    """Return what `choices` holds for a text.

    Raises:
        InvalidInput: Another text or another type; the sentence lists what is allowed.
    """
    if isinstance(value, str) and value in choices:
        return choices[value]
    allowed = ", ".join(f'"{text}"' for text in choices)
    raise InvalidInput(f"{field} must be one of {allowed}", field=field)


def prompt(value: object, field: str) -> str | None:
    """Return the first 2,048 characters of a prompt, None for None or empty text.

    Raises:
        InvalidInput: Not text.
    """
    if value is None or value == NO_TEXT:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be text", field=field)
    return _SURROGATES.sub("\ufffd", value[:PROMPT_LENGTH_MAX])


def attributes(value: object, field: str) -> dict[str, object] | None:
    """Return attributes that fit 4 KiB of JSON, None when there are none.

    What is too large is dropped, biggest first, and `_truncated` set; likewise values
    nested more than 32 levels. Exact decimals become ordinary numbers here, integers beyond
    64 bits text: attributes explain, they are not counted.

    Raises:
        InvalidInput: Not an object with text keys.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{field} must be an object", field=field)
    kept: dict[str, object] = {}
    is_cut = False
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidInput(f"{field} must have text keys", field=field)
        plain = _plain(item, ATTRIBUTES_DEPTH_MAX)
        if plain is _DROPPED:
            is_cut = True
        else:
            kept[_SURROGATES.sub("\ufffd", key)] = plain
    if is_cut:
        kept[TRUNCATED] = True
    return _fitted(kept) or None


def _plain(value: object, depth_left: int) -> object:
    """Return `value` as plain JSON types, or `_DROPPED` when it is too deep or of no JSON type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if _INTEGER_MIN <= value <= _INTEGER_MAX else str(value)
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, Decimal | float):
        number = float(value)
        return number if abs(number) < float("inf") else str(value)
    if depth_left == 0:
        return _DROPPED
    if isinstance(value, Mapping):
        plain = {str(key): _plain(item, depth_left - 1) for key, item in value.items()}
        return _DROPPED if _DROPPED in plain.values() else plain
    if isinstance(value, list | tuple):
        items = [_plain(item, depth_left - 1) for item in value]
        return _DROPPED if _DROPPED in items else items
    return _DROPPED


def _fitted(kept: dict[str, object]) -> dict[str, object]:
    """Return `kept`, less its biggest values until its JSON fits; order stays."""
    if len(msgspec.json.encode(kept)) <= ATTRIBUTES_BYTES_MAX:
        return kept
    size_by_key = {key: len(msgspec.json.encode({key: item})) for key, item in kept.items()}
    total = sum(size_by_key.values()) + _CUT_ENTRY_BYTES
    for key in sorted(size_by_key, key=size_by_key.__getitem__, reverse=True):
        if total <= ATTRIBUTES_BYTES_MAX:
            break
        total -= size_by_key[key]
        del kept[key]
    kept[TRUNCATED] = True
    return kept
