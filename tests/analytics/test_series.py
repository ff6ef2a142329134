"""Series: a point for each slice and group, few lines and a rest, and names of slices."""

import pytest

from bursar.analytics.query import NOTHING, Dim, Report, Row, Span
from bursar.analytics.series import REST, Point, series
from bursar.analytics.slices import Granularity, slices
from bursar.core.errors import InvalidInput
from bursar.core.time import MICROS_MIN, micros_from_text
from bursar.core.zones import parse_zone
from bursar.ledger.rows import Measures


def spent(nusd: int) -> Measures:
    return NOTHING._replace(requests=1, cost_nusd=nusd)


def report(*rows: tuple[int, str | None, int]) -> Report:
    return Report(
        [Row(piece, {"agent": name}, spent(nusd)) for piece, name, nusd in rows], NOTHING, has_more=False
    )


def test_lines_are_ranked_by_their_total_and_the_rest_is_one_line() -> None:
    rows = report((0, "a", 5), (0, "b", 7), (1, "a", 5), (1, "c", 1), (2, None, 2))
    points = series(rows, pieces=3, dim=Dim.AGENT, shown=2)
    assert [(p.piece, p.labels["agent"], p.measures.cost_nusd) for p in points] == [
        (0, "a", 5), (0, "b", 7), (0, REST, 0),
        (1, "a", 5), (1, "b", 0), (1, REST, 1),
        (2, "a", 0), (2, "b", 0), (2, REST, 2),
    ]  # fmt: skip


def test_a_single_line_has_a_point_where_nothing_happened() -> None:
    nothing = Report([], NOTHING, has_more=False)
    assert series(nothing, pieces=2, dim=None, shown=10) == [Point(0, {}, NOTHING), Point(1, {}, NOTHING)]


@pytest.mark.parametrize(("pieces", "has_more"), [(20_001, False), (1, True)])
def test_an_answer_too_large_to_draw_is_refused(pieces: int, has_more: bool) -> None:
    whole = report((0, "a", 1))._replace(has_more=has_more)
    with pytest.raises(InvalidInput, match="too many points"):
        series(whole, pieces=pieces, dim=Dim.AGENT, shown=1)


def test_slices_tile_the_range_and_are_named_after_their_whole_period() -> None:
    zone = parse_zone("America/Santiago")
    span = Span(micros_from_text("2026-03-31T12:00:00Z"), micros_from_text("2026-04-02T12:00:00Z"))
    days = slices(Granularity.DAY, zone, span)
    assert [piece.name for piece in days] == ["2026-03-31", "2026-04-01", "2026-04-02"]
    assert [days[0].span.starts_at, *(piece.span.ends_at for piece in days)] == [
        span.starts_at,
        *(piece.span.starts_at for piece in days[1:]),
        span.ends_at,
    ]
    assert [piece.name for piece in slices(Granularity.MONTH, zone, span)] == ["2026-03", "2026-04"]
    assert [piece.name for piece in slices(Granularity.WEEK, zone, span)] == ["2026-W14"]


def test_the_first_hour_of_all_has_a_name_even_where_its_local_time_does_not_exist() -> None:
    zone = parse_zone("America/Santiago")
    assert slices(Granularity.HOUR, zone, Span(MICROS_MIN, MICROS_MIN + 1))[0].name.startswith("0001-01-01")
