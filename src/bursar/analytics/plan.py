"""Choose where an answer is read: the narrowest roll-up, and events where it cuts an hour.

Roll-ups hold whole UTC hours. A range or a slice that begins or ends within an hour (an
exact timestamp, or a day in a zone such as Asia/Kolkata) takes the whole hours it covers
from the roll-up and reads the two cut ends from the ledger's entries, so that every total
is exact. Dimensions that no roll-up holds together are read from the entries alone.

Pure: knows which dimensions a roll-up has, not how it is queried (`storage`).
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from bursar.analytics.query import Dim, Query, Span
from bursar.core.time import MICROS_PER_HOUR


class RollUp(Enum):
    """The hourly roll-ups, the one with the fewest rows first."""

    FEATURE = frozenset({Dim.FEATURE})
    PROJECT = frozenset({Dim.PROJECT, Dim.MODEL, Dim.PROVIDER})
    AGENT = frozenset({Dim.AGENT, Dim.MODEL, Dim.PROVIDER, Dim.BILLING})
    USER = frozenset({Dim.USER})


class Piece(NamedTuple):
    """A part of slice number `position`, half-open."""

    position: int
    starts_at: int
    ends_at: int


class Plan(NamedTuple):
    """Where to read: `whole` hours from the roll-up, `cut` ones from entries.

    Together they cover the query's slices exactly once. `rollup` is None when `whole` is
    empty by necessity: no roll-up has all dimensions.
    """

    rollup: RollUp | None
    whole: list[Piece]
    cut: list[Piece]


def plan(query: Query, *, within: Span | None = None) -> Plan:
    """Return where `query` is read.

    Args:
        query: Its slices, or its span, are covered exactly.
        within: A span known to hold every event that passes the filters (that of a run);
            nothing outside of it is read.
    """
    rollup = narrowest({*query.dims, *query.filters})
    chosen = Plan(rollup, [], [])
    for position, span in enumerate(query.pieces):
        starts_at, ends_at = span
        if within is not None:
            starts_at, ends_at = max(starts_at, within.starts_at), min(ends_at, within.ends_at)
        if starts_at < ends_at:
            _cover(chosen, Piece(position, starts_at, ends_at))
    return chosen


def narrowest(dims: set[Dim]) -> RollUp | None:
    """Return the smallest roll-up that has all of `dims`, None when none has."""
    return next((rollup for rollup in RollUp if dims <= rollup.value), None)


def _cover(chosen: Plan, piece: Piece) -> None:
    """Add one piece: its whole hours to the roll-up's share, its ends to that of entries."""
    position, starts_at, ends_at = piece
    first = -(-starts_at // MICROS_PER_HOUR) * MICROS_PER_HOUR
    last = ends_at // MICROS_PER_HOUR * MICROS_PER_HOUR
    if chosen.rollup is None or first >= last:
        chosen.cut.append(piece)
        return
    if starts_at < first:
        chosen.cut.append(Piece(position, starts_at, first))
    chosen.whole.append(Piece(position, first, last))
    if last < ends_at:
        chosen.cut.append(Piece(position, last, ends_at))


def hourly(pieces: Sequence[Piece]) -> bool:
    """Whether `pieces` are slices 0, 1, 2 … of one hour each, side by side."""
    if not pieces:
        return False
    first = pieces[0].starts_at
    return all(
        piece == (number, first + number * MICROS_PER_HOUR, first + (number + 1) * MICROS_PER_HOUR)
        for number, piece in enumerate(pieces)
    )
