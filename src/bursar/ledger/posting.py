"""Turn priced events into entry rows and the sums that roll-ups add.

    ingestion.pipeline  →  post / correct  →  Posting  →  storage

Pure: reads no clock and no storage. One pass builds the rows and puts each event's
measures into a group of equal dimensions; each group is summed once and then added to
every roll-up it belongs to. With twenty events a run that is far less work than adding
each event to six roll-ups.

Not here: which events are new (`storage`, unique key), prices (`pricing`).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import neg
from typing import NamedTuple

import msgspec

from bursar.core.ids import Org, key_from_text
from bursar.core.usage import Billing, Price, UsageEvent
from bursar.ledger import histogram
from bursar.ledger.rows import (
    ENTRY_COLUMNS,
    HOUR_MICROS,
    PLAIN_COLUMNS,
    EntryRow,
    Refs,
    flags_of,
    media_of,
)

_encode_json = msgspec.json.Encoder().encode
_MEDIA_UNITS = (
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "web_searches",
)

GroupKey = tuple[int, int, int, int, int, int, int, bytes | None]
"""hour, agent, model, project, feature, user, billing, run"""

Row = tuple[object, ...]
"""The organisation and then an `EntryRow`'s values (or those of `PLAIN_COLUMNS`), as a plain
tuple: the database driver takes plain tuples twice as fast as named ones."""

Valued = tuple[Refs, Price, int]
"""An event's interned names, its price, and the row number of its rate card (0 for none)."""

_METERED = Billing.METERED
_RUN_KEYS_CACHED = 8_192
_run_key = lru_cache(_RUN_KEYS_CACHED)(key_from_text)


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
    """Everything that one batch writes for its fresh events.

    `plain_rows` are those of events without any of the `SELDOM_COLUMNS`, `rows` the others.
    `unpriced` are (model, occurred_at, key) of the events without a cost.
    """

    plain_rows: list[Row]
    rows: list[Row]
    rollups: RollUps
    unpriced: list[tuple[int, int, bytes]]


def post(org: Org, batch: int, events: Sequence[UsageEvent], valued: Iterable[Valued]) -> Posting:
    """Return the rows and roll-up deltas of `events`, which must all be new.

    `valued` runs in parallel to `events`. This is the hot loop of the server: each value is
    read once and stands both in the row and in the group's measures.
    """
    groups: dict[GroupKey, list[tuple[int, ...]]] = {}
    run_texts: dict[bytes, tuple[str, str]] = {}
    plain_rows: list[Row] = []
    rows: list[Row] = []
    unpriced: list[tuple[int, int, bytes]] = []
    group: list[tuple[int, ...]] = []
    last: tuple[object, ...] = ()
    run_text = ""
    run: bytes | None = None
    for event, (refs, price, card) in zip(events, valued, strict=True):
        agent, model, project, feature, user, api_key, overflow = refs
        at = event.occurred_at
        fresh, output, reasoning = event.input_tokens, event.output_tokens, event.reasoning_tokens
        cached, write_5m, write_1h = (
            event.cache_read_tokens, event.cache_write_5m_tokens, event.cache_write_1h_tokens,
        )  # fmt: skip
        media, searches, duration = event.media_tokens, event.web_searches, event.duration_ms
        cost = price[2]
        if event.run is not run_text:
            run_text = event.run
            run = _run_key(run_text) if run_text else None
        if run is not None and (event.parent_run or run not in run_texts):
            run_texts[run] = (run_text, event.parent_run)
        flags = flags_of(event, cost)
        if media or searches or event.session or event.attributes or overflow or event.hold:
            rows.append((
                org, at, event.key, batch, agent, model, project, feature, user, api_key, run,
                key_from_text(event.session) if event.session else None, event.hold,
                fresh, output, reasoning, cached, write_5m, write_1h, media_text(event), duration,
                flags, event.reported_nusd, card, price[1],
                _attributes_text(event.attributes, overflow) if event.attributes or overflow else None,
            ))  # fmt: skip
        else:
            plain_rows.append((
                org, at, event.key, batch, agent, model, project, feature, user, api_key, run,
                fresh, output, reasoning, cached, write_5m, write_1h, duration,
                flags, event.reported_nusd, card, price[1],
            ))  # fmt: skip
        billing = 0 if event.billing is _METERED else 1
        here = (at - at % HOUR_MICROS, refs, billing, run)
        if here != last:
            # A new group, or an old one again; neighbours mostly share theirs.
            last = here
            key = (here[0], agent, model, project, feature, user, billing, run)
            group = groups.setdefault(key, [])
        tokens = 0
        if cost is None:
            tokens = event.tokens_total
            unpriced.append((model, at, event.key))
        group.append((
            1, 1 if event.is_error else 0, 1 if cost is None else 0, tokens, cost or 0,
            fresh, output, reasoning, cached, write_5m, write_1h, media, searches, duration, at,
        ))  # fmt: skip
    return Posting(plain_rows, rows, _roll_up(groups, run_texts), unpriced)


def _attributes_text(attributes: Mapping[str, object] | None, overflow: dict[str, str] | None) -> str:
    """Return the attributes as JSON, with the names that are beyond their cap."""
    return _encode_json({**(attributes or {}), **(overflow or {})}).decode()


def revised_row(org: Org, batch: int, event: UsageEvent, valued: Valued) -> EntryRow:
    """Return the row of one event by its columns' names, for a correction."""
    posting = post(org, batch, [event], [valued])
    columns = ENTRY_COLUMNS if posting.rows else PLAIN_COLUMNS
    row = (posting.rows or posting.plain_rows)[0]
    values = {**dict.fromkeys(ENTRY_COLUMNS), **dict(zip(columns, row[1:], strict=True))}
    return EntryRow._make(values.values())


def media_text(event: UsageEvent) -> str | None:
    """Return the rare units as JSON, None where the event has none."""
    units = {unit: getattr(event, unit) for unit in _MEDIA_UNITS if getattr(event, unit)}
    return _encode_json(units).decode() if units else None


def measures_of(row: EntryRow) -> tuple[int, ...]:
    """Return what one row adds to every roll-up, in the order of `Measures`."""
    units = media_of(row)
    web_searches = units.pop("web_searches", 0)
    media_tokens = sum(units.values())
    counts = row[12:18]
    cost = row.cost_nusd
    tokens = sum(counts) + media_tokens if cost is None else 0
    head = (1, int(row.is_error), int(cost is None), tokens, cost or 0)
    return (*head, *counts, media_tokens, web_searches, row.duration_ms)


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
    spread = _Spread()
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
            spread.add(key, Sums(measures, buckets, row.occurred_at, row.occurred_at), run_text)
    return spread.rollups()


def _roll_up(
    groups: dict[GroupKey, list[tuple[int, ...]]], run_texts: dict[bytes, tuple[str, str]]
) -> RollUps:
    """Return the deltas of all roll-ups from groups of equal dimensions.

    Each item of a group is an event's `Measures` and, last, its time.
    """
    spread = _Spread()
    for key, group in groups.items():
        if len(group) == 1:
            *measures, at = group[0]
            sums = Sums(tuple(measures), histogram.buckets_of(measures[-1:]), at, at)
        else:
            *columns, times = zip(*group, strict=True)
            buckets = histogram.buckets_of(columns[-1])
            sums = Sums(tuple(map(sum, columns)), buckets, min(times), max(times))
        run = key[7]
        spread.add(key, sums, run_texts[run] if run is not None else ("", ""))
    return spread.rollups()


class _Spread:
    """Sorts groups' sums by the roll-up rows they belong to; each row is then summed once."""

    def __init__(self) -> None:
        self._by_agent: dict[tuple[int, int, int, int], list[Sums]] = {}
        self._by_project: dict[tuple[int, int, int], list[Sums]] = {}
        self._by_feature: dict[tuple[int, int], list[Sums]] = {}
        self._by_user: dict[tuple[int, int], list[Sums]] = {}
        self._agents: dict[tuple[int], list[Sums]] = {}
        self._runs: dict[tuple[bytes], list[Sums]] = {}
        self._run_heads: dict[tuple[bytes], tuple[str, str, int]] = {}

    def add(self, key: GroupKey, sums: Sums, run_text: tuple[str, str]) -> None:
        """Add one group's sums to every row that its dimensions belong to."""
        hour, agent, model, project, feature, user, billing, run = key
        self._by_agent.setdefault((hour, agent, model, billing), []).append(sums)
        self._by_project.setdefault((hour, project, model), []).append(sums)
        self._by_feature.setdefault((hour, feature), []).append(sums)
        self._by_user.setdefault((hour, user), []).append(sums)
        self._agents.setdefault((agent,), []).append(sums)
        if run is not None:
            self._runs.setdefault((run,), []).append(sums)
            known = self._run_heads.get((run,), ("", "", 0))
            self._run_heads[run,] = (run_text[0], run_text[1] or known[1], agent)

    def rollups(self) -> RollUps:
        """Return the deltas. Only the rows that keep a histogram get their buckets summed."""
        return RollUps(
            {key: _total(parts, with_buckets=True) for key, parts in self._by_agent.items()},
            {key: _total(parts, with_buckets=True) for key, parts in self._by_project.items()},
            {key: _total(parts) for key, parts in self._by_feature.items()},
            {key: _total(parts) for key, parts in self._by_user.items()},
            {key: _total(parts) for key, parts in self._agents.items()},
            {key: RunSums(_total(parts), *self._run_heads[key]) for key, parts in self._runs.items()},
            sorted({key[0] for key in self._by_agent}),
        )


def _total(parts: list[Sums], *, with_buckets: bool = False) -> Sums:
    """Return the sum of one row's parts; a part may be shared with other rows, so none changes."""
    if len(parts) == 1:
        return parts[0]
    measures, buckets, firsts, lasts = zip(*parts, strict=True)
    merged: dict[int, int] = {}
    if with_buckets:
        for part in buckets:
            for bucket, count in part.items():
                merged[bucket] = merged.get(bucket, 0) + count
    totals = tuple(map(sum, zip(*measures, strict=True)))
    return Sums(totals, merged, min(firsts), max(lasts))
