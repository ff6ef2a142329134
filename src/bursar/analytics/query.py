"""The values of a question and of its answer: dimensions, range, filters, rows.

    http/v1  →  Query  →  plan  →  storage  →  Report  →  http/v1

Not here: which table answers (`plan`), where days begin (`slices`), names of fields on the
wire (`http/v1`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from bursar.core.ids import Org
from bursar.ledger.rows import Measures

DIMS_MAX = 3
"""Most dimensions of one question; more would list nearly every event."""

ROWS_MAX = 10_000
"""Most rows of one answer: about 4 MB of JSON."""

POINTS_MAX = 100_000
"""Most rows a series reads before it folds them: about 0.3 s in a reader's thread."""

NOT_GIVEN = "(none)"
"""As a filter: the events that name no agent, project, feature, user or run."""


class Dim(StrEnum):
    """What rows can be grouped and filtered by. The values stand in the API."""

    MODEL = "model"
    PROVIDER = "provider"
    PROJECT = "project"
    FEATURE = "feature"
    AGENT = "agent"
    USER = "user"
    RUN = "run"
    BILLING = "billing"


class Span(NamedTuple):
    """A half-open range of instants, microseconds UTC."""

    starts_at: int
    ends_at: int


class Query(NamedTuple):
    """One question.

    Attributes:
        span: Only events that occurred in it count.
        dims: Grouped by these, at most `DIMS_MAX`, none twice; empty gives one row.
        filters: Name of each dimension to keep; all must hold. An unknown name gives no
            rows. For a model it is the name as sent.
        slices: Pieces of time that lie in `span`, in order, without overlap. Rows are kept
            apart by slice; empty means the span as a whole.
        limit: At most so many rows, those of the highest cost first (within a slice, when
            there are slices).
    """

    org: Org
    span: Span
    dims: tuple[Dim, ...] = ()
    filters: Mapping[Dim, str] = {}
    slices: tuple[Span, ...] = ()
    limit: int = ROWS_MAX
    offset: int = 0

    @property
    def pieces(self) -> tuple[Span, ...]:
        """The slices, or the span as the only one."""
        return self.slices or (self.span,)


class Row(NamedTuple):
    """One line of an answer.

    Attributes:
        piece: Position in the query's `slices`; 0 without slices.
        labels: Dimension → name, None where events do not give it. A model's line also
            says its `provider`.
        measures: Sums; `cost_nusd` leaves out the unpriced requests counted beside it.
    """

    piece: int
    labels: Mapping[str, str | None]
    measures: Measures


class Report(NamedTuple):
    """The answer: rows by slice and falling cost, the total of all of them, listed or not."""

    rows: list[Row]
    total: Measures
    has_more: bool


NOTHING = Measures._make([0] * len(Measures._fields))
"""The sum of no events."""


def add(left: Measures, right: Measures) -> Measures:
    """Return the sum of two measures."""
    return Measures._make([a + b for a, b in zip(left, right, strict=True)])
