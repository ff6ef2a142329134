"""What the reading routes share: their parameters, their ranges, and how sums are written.

Parameters are checked here and become the values of `analytics`; the routes differ only in
the names of their fields. Not here: who is asking (`web.principal`), error bodies (`web`).
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bursar.analytics.query import DIMS_MAX, Dim, Span
from bursar.core.errors import Denied, InvalidInput
from bursar.core.money import text_from_nusd
from bursar.core.zones import day_begins_at, day_of, parse_zone, range_end, range_start
from bursar.ledger.rows import Measures
from bursar.web.principal import Principal

DEFAULT_DAYS = 30
"""A range that is not given: today and the 29 days before it."""

TEXT_MAX = 1_024
"""Characters of one parameter; no name in the ledger is longer."""

_encode = msgspec.json.Encoder().encode


def text(description: str, *, alias: str | None = None) -> str | None:
    """Return the declaration of an optional text parameter (typed as its value for pydantic)."""
    declared: str | None = Field(default=None, alias=alias, max_length=TEXT_MAX, description=description)
    return declared


class RangeParams(BaseModel):
    """When: the parameters of every route that reads a range."""

    model_config = ConfigDict(populate_by_name=True)

    from_: str | None = text("First day (2026-03-01) or first instant (RFC 3339).", alias="from")
    to: str | None = text("Last day, included, or the instant at which the range ends.")
    zone: str | None = text("IANA zone in which days begin; the organisation's by default.")


class FilterParams(RangeParams):
    """Which: the filters, each by name, `(none)` for events that do not give it."""

    model: str | None = text("Model, as it was sent.")
    provider: str | None = text("Provider.")
    project: str | None = text("Project, by name or id.")
    feature: str | None = text("Feature.")
    agent: str | None = text("Agent, by name or id.")
    user: str | None = text("User.")
    run: str | None = text("Run id.")
    billing: str | None = text("metered or subscription.")

    def filters(self, principal: Principal) -> dict[Dim, str]:
        """Return the filters that are set, and those that the key is bound to.

        Raises:
            Denied: The key is bound to another project or agent than the one asked for.
        """
        wanted = self.named()
        return wanted | bound_filters(principal, wanted)

    def named(self) -> dict[Dim, str]:
        """Return the filters that are set."""
        return {dim: value for dim in Dim if (value := getattr(self, dim.value))}


class Range(NamedTuple):
    """A range as asked: exact instants, the zone, and how the caller may say it again."""

    span: Span
    zone: ZoneInfo
    from_text: str
    to_text: str


def bound_filters(principal: Principal, wanted: Mapping[Dim, str]) -> dict[Dim, str]:
    """Return what a key bound to a project or an agent may see at most.

    Raises:
        Denied: `wanted` names another one.
    """
    bound = {Dim.PROJECT: principal.project, Dim.AGENT: principal.agent}
    kept = {dim: name for dim, name in bound.items() if name}
    for dim, name in kept.items():
        if wanted.get(dim, name) != name:
            raise Denied(f"this key reads the {dim} {name} only", field=dim.value)
    return kept


def range_of(params: RangeParams, org_zone: str, now: int) -> Range:
    """Return the range that is asked for; what is missing is filled up to thirty days.

    Raises:
        InvalidInput: An unknown zone, a text that is no date or time, or an empty range.
    """
    zone = parse_zone(params.zone or org_zone, field="zone")
    if params.to:
        ends_at, to_text = range_end(params.to, zone), params.to
    else:
        today = day_of(zone, now)
        ends_at, to_text = day_begins_at(zone, today + timedelta(1)), today.isoformat()
    if params.from_:
        starts_at, from_text = range_start(params.from_, zone), params.from_
    else:
        last = day_of(zone, ends_at - 1)
        first = date.fromordinal(max(last.toordinal() - DEFAULT_DAYS + 1, 1))
        starts_at, from_text = range_start(first.isoformat(), zone), first.isoformat()
    if starts_at >= ends_at:
        raise InvalidInput("from must be before to", field="from")
    return Range(Span(starts_at, ends_at), zone, from_text, to_text)


def dims_of(listed: str, *, field: str, most: int = DIMS_MAX) -> tuple[Dim, ...]:
    """Return the dimensions that a comma-separated text names, each once.

    Raises:
        InvalidInput: None, too many, or an unknown one.
    """
    names = dict.fromkeys(name.strip().lower() for name in listed.split(",") if name.strip())
    unknown = [name for name in names if name not in set(Dim)]
    if unknown or not names:
        raise InvalidInput(f"{field} must name one of {', '.join(Dim)}", field=field)
    if len(names) > most:
        raise InvalidInput(f"{field} takes at most {most} dimensions", field=field)
    return tuple(map(Dim, names))


def offset_of(cursor: str | None, *, most: int = 1_000_000) -> int:
    """Return where a ranked list goes on.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(most))):
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return int(cursor)


def sums(measures: Measures) -> dict[str, object]:
    """Return the fields of native routes: token kinds apart, money as a decimal string."""
    fields: dict[str, object] = {
        "requests": measures.requests,
        "cost_usd": text_from_nusd(measures.cost_nusd),
    }
    plain = measures._asdict()
    for left_out in ("requests", "cost_nusd", "duration_ms"):
        del plain[left_out]
    return fields | plain | {"avg_duration_ms": average(measures.duration_ms, measures.requests)}


def average(total: int, count: int) -> int | None:
    """Return the mean, rounded half up to a whole number; None of nothing."""
    return (2 * total + count) // (2 * count) if count else None


def json_number(amount_nusd: int) -> msgspec.Raw:
    """Return US dollars as a JSON number with all its digits, never through a float."""
    return msgspec.Raw(text_from_nusd(amount_nusd).encode())


def answer(body: Mapping[str, object]) -> Response:
    """Return `body` as a JSON answer."""
    return Response(_encode(body), media_type="application/json")
