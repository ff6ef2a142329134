"""Turn the rows of a report by slice into series without holes.

Pure: takes the rows that storage found, gives a point for each slice and group, also where
nothing happened. Few groups are shown by themselves, the others as one rest, so that a
chart stays a chart and its stack is the whole.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bursar.analytics.query import NOTHING, Dim, Report, add
from bursar.core.errors import InvalidInput
from bursar.ledger.rows import Measures

REST = "(rest)"
"""The name of all groups that are not shown by themselves."""

POINTS_SHOWN_MAX = 20_000
"""Most points of one answer: about 8 MB of JSON."""

_Group = tuple[tuple[str, str | None], ...]


class Point(NamedTuple):
    """One group in one slice; `labels` is empty when the series is not grouped."""

    piece: int
    labels: Mapping[str, str | None]
    measures: Measures


def series(report: Report, *, pieces: int, dim: Dim | None, shown: int) -> list[Point]:
    """Return the points of each slice in turn, the group with the highest cost first.

    Args:
        report: Its rows are grouped by slice, and by `dim` if there is one.
        pieces: How many slices there are.
        dim: What the lines are told apart by; None for one line.
        shown: How many groups to show; the others are summed as `REST`.

    Raises:
        InvalidInput: The report is not whole, or it would make too many points.
    """
    totals: dict[_Group, Measures] = {} if dim else {(): NOTHING}
    found: dict[tuple[_Group, int], Measures] = {}
    for row in report.rows:
        group = tuple(row.labels.items())
        found[group, row.piece] = row.measures
        totals[group] = add(totals.get(group, NOTHING), row.measures)
    ranked = sorted(totals, key=lambda group: (-totals[group].cost_nusd, -totals[group].requests))
    lines = [_line(found, group, pieces) for group in ranked[:shown]]
    groups = ranked[:shown]
    if len(ranked) > shown and dim is not None:
        groups.append(((dim.value, REST),))
        lines.append(_sum([_line(found, group, pieces) for group in ranked[shown:]]))
    if report.has_more or pieces * len(groups) > POINTS_SHOWN_MAX:
        raise InvalidInput("too many points; shorten the range or take longer slices", field="granularity")
    return [
        Point(piece, dict(group), line[piece])
        for piece in range(pieces)
        for group, line in zip(groups, lines, strict=True)
    ]


def _line(found: dict[tuple[_Group, int], Measures], group: _Group, pieces: int) -> list[Measures]:
    return [found.get((group, piece), NOTHING) for piece in range(pieces)]


def _sum(lines: list[list[Measures]]) -> list[Measures]:
    total = lines[0]
    for line in lines[1:]:
        total = [a if b is NOTHING else add(a, b) for a, b in zip(total, line, strict=True)]
    return total
