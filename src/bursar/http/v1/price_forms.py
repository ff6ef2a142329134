"""What the price routes are sent: JSON that becomes overrides and events.

    bytes  →  checks.decode_json  →  NewPrice, Question  →  PriceOverride, UsageEvent

Numbers are read from the text as decimals; no binary float stands between the price that was
sent and the one that is kept. Rates are written in US dollars per million units, also those of
searches and requests. Not here: routes (`prices`), answers (`price_answers`).
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from bursar.capture import checks
from bursar.core.errors import InvalidInput
from bursar.core.time import micros_from_text
from bursar.core.usage import (
    TOKENS_MAX,
    RateLine,
    Source,
    Subject,
    UsageEvent,
)
from bursar.pricing.listing import InexactPriceError, rate_e6
from bursar.pricing.overrides import OverrideKind, PriceOverride
from bursar.pricing.timeline import BEGINNING
from bursar.pricing.units import UNITS
from bursar.web.bodies import Disconnected, read_body

ALWAYS: Final = "always"
"""What `valid_from` says of a price that has no beginning."""

BODY_BYTES_MAX: Final = 2**18
"""A price with every unit and a dozen context tiers has about 10 KiB."""

_TIERS_MAX: Final = 16
_NUMBER_LENGTH_MAX: Final = 64
_USD_PER_MILLION_MAX: Final = 1_000_000
_PERCENT_MIN: Final = -100
_PERCENT_MAX: Final = 10_000
_MILLION: Final = 1_000_000
_NOT_A_NUMBER: Final = 'must be a decimal number, for example "2.50"'

Tier = Literal["standard", "batch", "flex", "priority"]
Form = TypeVar("Form", bound=BaseModel)


def _refusal(sentence: str) -> PydanticCustomError:
    """Return what a validator raises: the sentence as it is, beside the field's name."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def _number(value: object) -> Decimal:
    """Return a JSON number or decimal text as it was written."""
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    is_text = isinstance(value, str) and len(value) <= _NUMBER_LENGTH_MAX and value.isascii()
    if not (is_number or is_text) or "_" in str(value):
        raise _refusal(_NOT_A_NUMBER)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _refusal(_NOT_A_NUMBER) from None
    if not number.is_finite():
        raise _refusal("must be a finite number")
    return number


def _rate(value: object) -> int:
    """Return nano-USD × 10⁶ for one unit when a million of them cost `value` US dollars."""
    price = _number(value)
    if not 0 <= price <= _USD_PER_MILLION_MAX:
        raise _refusal(f"must be from 0 to {_USD_PER_MILLION_MAX} US dollars per million")
    try:
        rate = rate_e6(price, _MILLION)
    except InexactPriceError:
        rate = 0
    if rate == 0 and price > 0:
        raise _refusal("has more decimals than a price per million holds, which is nine")
    return rate


def _basis_points(value: object) -> int:
    """Return hundredths of a percent."""
    percent = _number(value)
    if not _PERCENT_MIN <= percent <= _PERCENT_MAX:
        raise _refusal(f"must be from {_PERCENT_MIN} to {_PERCENT_MAX}")
    if percent != round(percent, 2):
        raise _refusal("must have at most two decimals")
    return int(percent * 100)


def _moment(value: object) -> int:
    if not isinstance(value, str):
        raise _refusal("must be an RFC 3339 time with a zone, for example 2026-03-01T14:00:00Z")
    try:
        return micros_from_text(value, field="it")
    except InvalidInput as error:
        raise _refusal(error.detail.removeprefix("it ")) from None


def _start(value: object) -> int:
    return BEGINNING if value == ALWAYS else _moment(value)


_DECIMAL_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "number"}], "examples": ["2.50"]}
_TIME_SCHEMA = {"type": "string", "format": "date-time"}
Rate = Annotated[int, BeforeValidator(_rate), WithJsonSchema(_DECIMAL_SCHEMA)]
Percent = Annotated[int, BeforeValidator(_basis_points), WithJsonSchema(_DECIMAL_SCHEMA)]
Moment = Annotated[int, BeforeValidator(_moment), WithJsonSchema(_TIME_SCHEMA)]
Start = Annotated[int, BeforeValidator(_start), WithJsonSchema({"type": "string"})]


class PerMillion(BaseModel):
    """US dollars for a million of each unit; what is left out follows the documented rules."""

    model_config = ConfigDict(extra="forbid")

    input_tokens: Rate | None = None
    output_tokens: Rate | None = None
    reasoning_tokens: Rate | None = None
    cache_read_tokens: Rate | None = None
    cache_write_5m_tokens: Rate | None = None
    cache_write_1h_tokens: Rate | None = None
    input_audio_tokens: Rate | None = None
    output_audio_tokens: Rate | None = None
    input_image_tokens: Rate | None = None
    output_image_tokens: Rate | None = None
    web_searches: Rate | None = None
    request: Rate | None = None

    def lines(self, from_context_tokens: int) -> list[RateLine]:
        """Return the rates that are given, for contexts above that many tokens."""
        given = ((unit, getattr(self, unit)) for unit in UNITS)
        return [RateLine(unit, rate, from_context_tokens) for unit, rate in given if rate is not None]


class ContextTier(BaseModel):
    """Prices of the whole call once its context is above a number of tokens."""

    model_config = ConfigDict(extra="forbid")

    above_tokens: int = Field(ge=1, le=TOKENS_MAX, strict=True)
    per_million: PerMillion


class NewPrice(BaseModel):
    """A price of the organisation's own: whole prices, or a percentage of the list's."""

    model_config = ConfigDict(extra="forbid")

    pattern: str = Field(
        min_length=1, max_length=256, description="`gpt-4o`, `openai/gpt-4o` or `openai/gpt-4*`."
    )
    valid_from: Start | None = Field(
        default=None, description="First moment of usage it is for; now by default, or `always`."
    )
    valid_to: Moment | None = Field(default=None, description="First moment it is no longer for.")
    per_million: PerMillion | None = Field(default=None, description="Whole prices, US dollars per million.")
    context_tiers: list[ContextTier] = Field(default=[], max_length=_TIERS_MAX)
    percent: Percent | None = Field(default=None, description="Change of every list price: -15 is 15 % off.")
    service_tier: Tier | None = Field(
        default=None, description="The one tier it is for; every tier by default."
    )
    note: str = Field(default="", max_length=256)

    def override(self, now: int) -> PriceOverride:
        """Return the override that begins `now` where no beginning is given.

        Raises:
            InvalidInput: The parts do not fit together; `field` names the one at fault.
        """
        valid_from = now if self.valid_from is None else self.valid_from
        if self.valid_to is not None and self.valid_to <= valid_from:
            raise InvalidInput("valid_to must be after valid_from", field="valid_to")
        return PriceOverride(
            pattern=checks.name(self.pattern, "pattern"),
            kind=OverrideKind.ABSOLUTE if self.percent is None else OverrideKind.PERCENT,
            valid_from=valid_from,
            valid_to=self.valid_to,
            lines=self._lines(),
            percent_bp=self.percent or 0,
            service_tier=checks.SERVICE_TIERS[self.service_tier] if self.service_tier else None,
            note=checks.optional_name(self.note, "note"),
        )

    def _lines(self) -> tuple[RateLine, ...]:
        if (self.per_million is None) == (self.percent is None):
            raise InvalidInput("give either per_million or percent", field="per_million")
        if self.per_million is None:
            if self.context_tiers:
                raise InvalidInput("context_tiers go with per_million", field="context_tiers")
            return ()
        lines = self.per_million.lines(0)
        if not lines:
            raise InvalidInput("per_million needs at least one unit", field="per_million")
        based = {line.unit for line in lines}
        for tier in self.context_tiers:
            lines += (added := tier.per_million.lines(tier.above_tokens))
            if not {line.unit for line in added} <= based:
                raise InvalidInput("context_tiers may only name units of per_million", field="context_tiers")
        if len({line[::2] for line in lines}) != len(lines):
            raise InvalidInput("context_tiers name one above_tokens twice", field="context_tiers")
        return tuple(lines)


class EndPrice(BaseModel):
    """When an override is to end."""

    model_config = ConfigDict(extra="forbid")

    valid_to: Moment | None = Field(
        default=None, description="First moment it is no longer for; now by default."
    )


class Question(BaseModel):
    """A call whose price is to be explained; its counts are disjoint."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    provider: str = Field(default="", max_length=256)
    at: Moment | None = Field(default=None, description="When the call was made; now by default.")
    service_tier: Tier = "standard"
    billing: Literal["metered", "subscription"] = "metered"
    status: Literal["ok", "error"] = "ok"
    reported_cost_usd: Annotated[
        Decimal | None, BeforeValidator(lambda value: value if value is None else _number(value)),
        WithJsonSchema(_DECIMAL_SCHEMA),
    ] = None  # fmt: skip
    input_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    output_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    reasoning_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    cache_read_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    cache_write_5m_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    cache_write_1h_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    input_audio_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    output_audio_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    input_image_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    output_image_tokens: int = Field(default=0, ge=0, le=TOKENS_MAX)
    web_searches: int = Field(default=0, ge=0, le=TOKENS_MAX)

    def event(self, now: int) -> UsageEvent:
        """Return the event that the question describes, made `now` unless it says when.

        Raises:
            InvalidInput: A name with control characters, or a cost that is no money.
        """
        provider = checks.optional_name(self.provider, "provider")
        return UsageEvent(
            key=bytes(16),
            occurred_at=now if self.at is None else self.at,
            subject=Subject("", provider, checks.name(self.model, "model")),
            source=Source.NATIVE,
            reported_nusd=checks.cost_nusd(self.reported_cost_usd, "reported_cost_usd"),
            is_error=self.status == "error",
            billing=checks.BILLINGS[self.billing],
            service_tier=checks.SERVICE_TIERS[self.service_tier],
            **{field: getattr(self, field) for field in checks.COUNT_FIELDS},
        )


async def body_bytes(request: Request, bytes_max: int) -> bytes:
    """Return the request's body, inflated, of at most `bytes_max` bytes.

    Raises:
        TooLarge: It is longer.
        InvalidInput: It is cut off, or not the encoding it says.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower().encode()
    try:
        return await read_body(request.receive, encoding, wire_bytes_max=bytes_max, bytes_max=bytes_max)
    except Disconnected:
        raise InvalidInput("the body ended before it was complete") from None


async def form_of(request: Request, form: type[Form]) -> Form:
    """Return the request's JSON body as `form`; an empty body is an empty object.

    Raises:
        InvalidInput: Not JSON.
        RequestValidationError: JSON that does not fit; it names each field.
    """
    raw = await body_bytes(request, BODY_BYTES_MAX)
    decoded = checks.decode_json(raw) if raw.strip() else {}
    try:
        return form.model_validate(decoded)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_input=False)]
        raise RequestValidationError(faults) from None


def documented(form: type[BaseModel]) -> dict[str, object]:
    """Return what the OpenAPI document says of a body that the framework does not read."""
    schema = _inlined(form.model_json_schema())
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Mapping[str, object]) -> dict[str, object]:
    """Return a schema without references, as it stands inside another document."""
    parts = schema.get("$defs", {})

    def resolve(node: object) -> object:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str) and isinstance(parts, dict):
                return resolve(parts[reference.rsplit("/", 1)[1]])
            return {name: resolve(value) for name, value in node.items() if name != "$defs"}
        return [resolve(value) for value in node] if isinstance(node, list) else node

    resolved = resolve(schema)
    return resolved if isinstance(resolved, dict) else {}
