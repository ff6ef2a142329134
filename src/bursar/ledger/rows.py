"""The row of an event's effect, and the measures that roll-ups sum.

`EntryRow` is what `posting` gives and `storage` writes, column for column: an event that
was never revised is its own ledger entry, so one shape serves both tables. `Measures` are
what every roll-up sums. Both are plain tuples because a batch holds a thousand of them.
"""

from typing import NamedTuple

import msgspec

from bursar.core.usage import Billing, ServiceTier, Source, UsageEvent

HOUR_MICROS = 3_600_000_000

FLAG_ERROR = 1
FLAG_TIME_STAMPED = 2
FLAG_CLOCK_SUSPECT = 4
_BILLING_SHIFT = 3
_TIER_SHIFT = 4
_SOURCE_SHIFT = 8
_COUNTS_SHIFT = 14

COUNTS_NOTHING = 0
"""No price is known: the event is unpriced."""
COUNTS_COMPUTED = 1
COUNTS_REPORTED = 2
_COMPUTED_BITS = COUNTS_COMPUTED << _COUNTS_SHIFT
_REPORTED_BITS = COUNTS_REPORTED << _COUNTS_SHIFT


class Refs(NamedTuple):
    """The row numbers of an event's names in its organisation; 0 means "not given".

    `overflow` holds names beyond the cap of their kind: they count as `(other)`, and their
    text stays in the event's attributes.
    """

    agent: int
    model: int
    project: int
    feature: int
    user: int
    api_key: int
    overflow: dict[str, str] | None = None


class EntryRow(NamedTuple):
    """One event's effect on the ledger, interned.

    `flags` packs status, how the time came about, billing type, service tier, source and
    which of the two costs counts (`flags_of`). `media` is JSON of the rare units (audio,
    image, web searches), None where there are none. Costs are nano-USD.
    """

    occurred_at: int
    key: bytes
    batch: int
    agent: int
    model: int
    project: int
    feature: int
    user: int
    api_key: int
    run: bytes | None
    session: bytes | None
    hold: bytes | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    media: str | None
    duration_ms: int
    flags: int
    reported_nusd: int | None
    card: int
    computed_nusd: int | None
    attributes: str | None

    @property
    def counts(self) -> int:
        """Which cost counts: `COUNTS_NOTHING`, `COUNTS_COMPUTED` or `COUNTS_REPORTED`."""
        return self.flags >> _COUNTS_SHIFT & 3

    @property
    def cost_nusd(self) -> int | None:
        """The cost that counts; None is unpriced."""
        if self.counts == COUNTS_REPORTED:
            return self.reported_nusd
        return self.computed_nusd if self.counts == COUNTS_COMPUTED else None

    @property
    def billing(self) -> int:
        """The billing type's number."""
        return self.flags >> _BILLING_SHIFT & 1

    @property
    def is_error(self) -> bool:
        """The call failed."""
        return bool(self.flags & FLAG_ERROR)

    @property
    def source(self) -> Source:
        """Who captured it."""
        return Source(self.flags >> _SOURCE_SHIFT & 63)

    @property
    def service_tier(self) -> ServiceTier:
        """The tier that was priced."""
        return ServiceTier(self.flags >> _TIER_SHIFT & 15)


class Measures(NamedTuple):
    """What every roll-up sums. A reversal is the same with every sign turned."""

    requests: int
    errors: int
    unpriced_requests: int
    unpriced_tokens: int
    cost_nusd: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    media_tokens: int
    web_searches: int
    duration_ms: int


MEASURES = Measures._fields
ENTRY_COLUMNS = EntryRow._fields
SELDOM_COLUMNS = frozenset({"session", "hold", "media", "attributes"})
"""Columns that most events leave empty; a row without them is bound with four values less."""

PLAIN_COLUMNS = tuple(name for name in ENTRY_COLUMNS if name not in SELDOM_COLUMNS)


def media_of(row: EntryRow) -> dict[str, int]:
    """Return the rare units of a row by name, empty for nearly all."""
    return {} if row.media is None else msgspec.json.decode(row.media, type=dict[str, int])


def counts_of(row: EntryRow) -> dict[str, int]:
    """Return the disjoint counts of a row by their names in `UsageEvent`; rare ones where there are any."""
    return {
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "cache_read_tokens": row.cache_read_tokens,
        "cache_write_5m_tokens": row.cache_write_5m_tokens,
        "cache_write_1h_tokens": row.cache_write_1h_tokens,
        **media_of(row),
    }


_SOURCE_FLAGS = [number << _SOURCE_SHIFT for number in range(max(Source) + 1)]
_STANDARD = ServiceTier.STANDARD
_METERED = Billing.METERED


def flags_of(event: UsageEvent, cost_nusd: int | None) -> int:
    """Return the packed facts of an event and, by two bits, which of its costs counts.

    On the hot path: enum members are compared by identity, as arithmetic on them is slow.
    """
    flags = _SOURCE_FLAGS[event.source]
    if event.service_tier is not _STANDARD:
        flags |= event.service_tier << _TIER_SHIFT
    if event.billing is not _METERED:
        flags |= event.billing << _BILLING_SHIFT
    if event.is_error:
        flags |= FLAG_ERROR
    if event.time_stamped:
        flags |= FLAG_TIME_STAMPED
    if event.clock_suspect:
        flags |= FLAG_CLOCK_SUSPECT
    if cost_nusd is None:
        return flags
    return flags | (_REPORTED_BITS if cost_nusd == event.reported_nusd else _COMPUTED_BITS)
