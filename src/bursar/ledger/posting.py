"""Turn priced events into entry rows and the sums that roll-ups add.

    ingestion.pipeline  →  post / correct  →  Posting  →  storage

Pure: reads no clock and no storage. One pass builds the rows and puts each event's
measures into a group of equal dimensions; each group is summed once and then added to
every roll-up it belongs to. With twenty events a run that is far less work than adding
each event to six roll-ups.

Not here: which events are new (`storage`, unique key), prices (`pricing`).
"""

from collections.abc import Iterable, Sequence
from operator import add, neg
from typing import NamedTuple, TypeVar

import msgspec

from bursar.core.ids import key_from_text
from bursar.core.usage import Price, UsageEvent
from bursar.ledger import histogram
from bursar.ledger.rows import (
    COUNTS_COMPUTED,
    COUNTS_NOTHING,
    COUNTS_REPORTED,
    HOUR_MICROS,
    EntryRow,
    Refs,
    base_flags,
    with_counts,
)

_encode_json = msgspec.json.Encoder().encode
_MEDIA_UNITS = (
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "web_searches",
)

_Key = TypeVar("_Key")

GroupKey = tuple[int, int, int, int, int, int, int, bytes | None]
"""hour, agent, model, project, feature, user, billing, run"""


class Group:
    """Events of equal dimensions within one hour: their measures, waiting to be summed."""

    __slots__ = ("durations", "first_at", "last_at", "measures", "run_text")

    def __init__(self, occurred_at: int, run_text: tuple[str, str]) -> None:
        self.measures: list[tuple[int, ...]] = []
        self.durations: list[int] = []
        self.first_at = occurred_at
        self.last_at = occurred_at
        self.run_text = run_text


class Sums(NamedTuple):
    """What one roll-up row gains: measures, histogram buckets, first and last event."""

    measures: tuple[int, ...]
    buckets: dict[int, int]
    first_at: int
    last_at: int


class RunSums(NamedTuple):
    """What one run gains, with the texts that its row keeps."""

    sums: Sums
    run: str
    parent_run: str
    agent: int


class RollUps(NamedTuple):
    """Deltas per roll-up, keyed by the row's dimensions without the organisation."""

    by_agent: dict[tuple[int, int, int, int], Sums]
    by_project: dict[tuple[int, int, int], Sums]
    by_feature: dict[tuple[int, int], Sums]
    by_user: dict[tuple[int, int], Sums]
    agents: dict[tuple[int], Sums]
    runs: dict[tuple[bytes], RunSums]
    hours: list[int]


class Posting(NamedTuple):
    """Everything that one batch writes for its fresh events, in the order they came."""

    rows: list[EntryRow]
    rollups: RollUps


def post(
    events: Sequence[UsageEvent],
    refs: Sequence[Refs],
    prices: Sequence[Price],
    cards: Sequence[int],
    batch: int,
) -> Posting:
    """Return the rows and roll-up deltas of `events`, which must all be new.

    The four sequences run in parallel: `refs` are the interned names, `prices` what each
    costs, `cards` the row numbers of the rate cards (0 for none).
    """
    groups: dict[GroupKey, Group] = {}
    rows = [
        _post_one(event, ref, price, card, batch, groups)
        for event, ref, price, card in zip(events, refs, prices, cards, strict=True)
    ]
    return Posting(rows, roll_up(groups))


def _post_one(  # noqa: PLR0917 - the hot loop's five parallel values, called from one place
    event: UsageEvent, refs: Refs, price: Price, card: int, batch: int, groups: dict[GroupKey, Group]
) -> EntryRow:
    """Build the row and put its measures into the group it belongs to."""
    row = entry_row(event, refs, price, card, batch)
    at = row[0]
    key = (at - at % HOUR_MICROS, row[3], row[4], row[5], row[6], row[7], event.billing, row[9])
    group = groups.get(key)
    if group is None:
        group = groups[key] = Group(at, (event.run, event.parent_run))
    elif at < group.first_at:
        group.first_at = at
    elif at > group.last_at:
        group.last_at = at
    group.measures.append(measures_of(row))
    group.durations.append(row[19])
    return row


def entry_row(event: UsageEvent, refs: Refs, price: Price, card: int, batch: int) -> EntryRow:
    """Return the row of one event."""
    agent, model, project, feature, user, api_key, overflow = refs
    cost = price.cost_nusd
    if cost is None:
        counts = COUNTS_NOTHING
    else:
        counts = COUNTS_REPORTED if cost == event.reported_nusd else COUNTS_COMPUTED
    attributes = event.attributes
    if overflow is not None:
        attributes = {**(attributes or {}), **overflow}
    return EntryRow._make(
        (
            event.occurred_at,
            event.key,
            batch,
            agent,
            model,
            project,
            feature,
            user,
            api_key,
            key_from_text(event.run) if event.run else None,
            key_from_text(event.session) if event.session else None,
            event.hold,
            event.input_tokens,
            event.output_tokens,
            event.reasoning_tokens,
            event.cache_read_tokens,
            event.cache_write_5m_tokens,
            event.cache_write_1h_tokens,
            media_text(event),
            event.duration_ms,
            with_counts(base_flags(event), counts),
            event.reported_nusd,
            card,
            price.computed_nusd,
            _encode_json(attributes).decode() if attributes else None,
        )
    )


def media_text(event: UsageEvent) -> str | None:
    """Return the rare units as JSON, None where the event has none (nearly always)."""
    if not (event.media_tokens or event.web_searches):
        return None
    units = {unit: getattr(event, unit) for unit in _MEDIA_UNITS if getattr(event, unit)}
    return _encode_json(units).decode()


def measures_of(row: EntryRow) -> tuple[int, ...]:
    """Return what one row adds to every roll-up, in the order of `Measures`."""
    media_tokens = web_searches = 0
    if row.media is not None:
        units = msgspec.json.decode(row.media, type=dict[str, int])
        web_searches = units.pop("web_searches", 0)
        media_tokens = sum(units.values())
    fresh, output, reasoning, cached, write_5m, write_1h = row[12:18]
    flags = row[20]
    cost = row.cost_nusd
    tokens = 0
    if cost is None:
        tokens = fresh + output + reasoning + cached + write_5m + write_1h + media_tokens
    return (
        1,
        flags & 1,
        1 if cost is None else 0,
        tokens,
        cost or 0,
        fresh,
        output,
        reasoning,
        cached,
        write_5m,
        write_1h,
        media_tokens,
        web_searches,
        row[19],
    )


class Correction(NamedTuple):
    """A full reversal of an entry's effect and, beside it, what stands in its place.

    `*_run` are the run's and its parent's texts; `corrects` is the number of the entry
    that is reversed, None when the event row is its own entry.
    """

    reversed_row: EntryRow
    posted_row: EntryRow
    reversed_run: tuple[str, str]
    posted_run: tuple[str, str]
    corrects: int | None


def correct(corrections: Iterable[Correction]) -> RollUps:
    """Return the roll-up deltas of corrections: minus the old row, plus the new one.

    The old row is reversed in its own hour and dimensions, so each roll-up stays the sum
    of its entries whatever the revision changed.
    """
    deltas = RollUps({}, {}, {}, {}, {}, {}, [])
    for correction in corrections:
        for row, run_text, sign in (
            (correction.reversed_row, correction.reversed_run, -1),
            (correction.posted_row, correction.posted_run, 1),
        ):
            measures = measures_of(row)
            if sign < 0:
                measures = tuple(map(neg, measures))
            buckets = histogram.buckets_of([row.duration_ms], sign)
            hour = row.occurred_at - row.occurred_at % HOUR_MICROS
            key = (hour, row.agent, row.model, row.project, row.feature, row.user, row.billing, row.run)
            sums = Sums(measures, buckets, row.occurred_at, row.occurred_at)
            _spread(deltas, key, sums, run_text)
    return deltas._replace(hours=sorted({key[0] for key in deltas.by_agent}))


def roll_up(groups: dict[GroupKey, Group]) -> RollUps:
    """Return the deltas of all roll-ups from groups of equal dimensions."""
    deltas = RollUps({}, {}, {}, {}, {}, {}, [])
    for key, group in groups.items():
        columns = group.measures[0] if len(group.measures) == 1 else tuple(map(sum, zip(*group.measures)))  # noqa: B905 - equal lengths by construction
        sums = Sums(columns, histogram.buckets_of(group.durations), group.first_at, group.last_at)
        _spread(deltas, key, sums, group.run_text)
    return deltas._replace(hours=sorted({key[0] for key in deltas.by_agent}))


def _spread(deltas: RollUps, key: GroupKey, sums: Sums, run_text: tuple[str, str]) -> None:
    """Add one group's sums to every roll-up that its dimensions belong to."""
    hour, agent, model, project, feature, user, billing, run = key
    _add(deltas.by_agent, (hour, agent, model, billing), sums)
    _add(deltas.by_project, (hour, project, model), sums)
    _add(deltas.by_feature, (hour, feature), sums)
    _add(deltas.by_user, (hour, user), sums)
    _add(deltas.agents, (agent,), sums)
    if run is not None:
        known = deltas.runs.get((run,))
        total = sums if known is None else _plus(known.sums, sums)
        parent = run_text[1] or (known.parent_run if known else "")
        deltas.runs[run,] = RunSums(total, run_text[0], parent, agent)


def _add(target: dict[_Key, Sums], key: _Key, sums: Sums) -> None:
    known = target.get(key)
    target[key] = sums if known is None else _plus(known, sums)


def _plus(left: Sums, right: Sums) -> Sums:
    """Return the sum of two deltas; neither is changed (they are shared between roll-ups)."""
    buckets = dict(left.buckets)
    for bucket, count in right.buckets.items():
        buckets[bucket] = buckets.get(bucket, 0) + count
    return Sums(
        tuple(map(add, left.measures, right.measures)),
        buckets,
        min(left.first_at, right.first_at),
        max(left.last_at, right.last_at),
    )
