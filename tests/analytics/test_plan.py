"""Which hours come from a roll-up, which from entries, and that nothing is read twice or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.analytics.plan import Piece, RollUp, narrowest, plan
from bursar.analytics.query import Dim, Query, Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_HOUR

near = st.builds(lambda hour, within: hour * MICROS_PER_HOUR + within, st.integers(-3, 3), st.integers(-2, 2))


@given(st.lists(near, min_size=2, max_size=6, unique=True).map(sorted), st.none() | st.tuples(near, near))
def test_whole_and_cut_pieces_tile_each_slice(ends: list[int], bounds: tuple[int, int] | None) -> None:
    spans = tuple(map(Span, ends, ends[1:]))
    within = Span(min(bounds), max(bounds)) if bounds else None
    chosen = plan(Query(Org(1), Span(ends[0], ends[-1]), slices=spans), within=within)
    assert all(
        piece.starts_at % MICROS_PER_HOUR == 0 == piece.ends_at % MICROS_PER_HOUR for piece in chosen.whole
    )
    for position, span in enumerate(spans):
        read = sorted(piece[1:] for piece in [*chosen.whole, *chosen.cut] if piece.position == position)
        starts_at = max(span.starts_at, within.starts_at) if within else span.starts_at
        ends_at = min(span.ends_at, within.ends_at) if within else span.ends_at
        assert [start for start, _ in read] + [ends_at] == [starts_at] + [end for _, end in read] or (
            starts_at >= ends_at and read == []
        )
        assert all(start < end for start, end in read)


@pytest.mark.parametrize(
    ("dims", "rollup"),
    [
        (set(), RollUp.FEATURE),
        ({Dim.MODEL}, RollUp.PROJECT),
        ({Dim.PROJECT, Dim.PROVIDER}, RollUp.PROJECT),
        ({Dim.MODEL, Dim.BILLING}, RollUp.AGENT),
        ({Dim.USER}, RollUp.USER),
        ({Dim.AGENT, Dim.PROJECT}, None),
        ({Dim.RUN}, None),
    ],
)
def test_the_smallest_roll_up_that_has_every_dimension_is_read(dims: set[Dim], rollup: RollUp | None) -> None:
    assert narrowest(dims) is rollup


def test_an_hour_that_is_cut_twice_is_read_as_one_piece() -> None:
    span = Span(10, MICROS_PER_HOUR - 10)
    assert plan(Query(Org(1), span)).cut == [Piece(0, *span)]


def test_a_whole_day_of_utc_needs_no_entries() -> None:
    chosen = plan(Query(Org(1), Span(0, 24 * MICROS_PER_HOUR), dims=(Dim.MODEL,)))
    assert (chosen.whole, chosen.cut) == ([Piece(0, 0, 24 * MICROS_PER_HOUR)], [])
