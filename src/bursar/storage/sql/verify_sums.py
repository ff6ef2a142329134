"""Prove the sums: entries against every roll-up, agents' totals and runs.

One pass groups a range's entries by all dimensions (`temp.fine`); each roll-up is then summed
from those groups and compared row by row. Sums are made by SQLite from the tables'
own columns, not by the code that wrote them.
"""

from collections.abc import Iterator

from bursar.core.ids import key_from_text, uuid_text_from_id
from bursar.ledger import histogram
from bursar.ledger.rows import MEASURES
from bursar.storage.sql.columns import MEASURE_ADDS, MEASURE_LIST, MEASURE_SUMS
from bursar.storage.sql.verify_scope import HOUR_OF, Scope, compare, key_text
from bursar.storage.sqlite.connection import SqliteConnection

_SPAN = ("first_at", "last_at")
_DIMENSIONS = "hour, agent, model, project, feature, user, billing, run"
_FINE = f"""CREATE TEMP TABLE fine ({_DIMENSIONS}, {MEASURE_LIST}, durations, first_at, last_at)"""
_RUN_SUM = f"""CREATE TEMP TABLE run_sum (run BLOB PRIMARY KEY, {MEASURE_LIST}, first_at, last_at)
    WITHOUT ROWID"""

_COUNTED = """agent, model, project, feature, user, billing, run, occurred_at, is_error, cost_nusd,
    input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, media_tokens, web_searches, duration_ms"""
_TOKENS = """input_tokens + output_tokens + reasoning_tokens + cache_read_tokens
    + cache_write_5m_tokens + cache_write_1h_tokens + media_tokens"""
_PLAIN = MEASURES[MEASURES.index("input_tokens") :]
_RANGE = "WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3"
_FILL = f"""INSERT INTO temp.fine
    SELECT {HOUR_OF} AS hour, agent, model, project, feature, user, billing, run,
        sum(sign), sum(sign * is_error), sum(sign * (cost_nusd IS NULL)),
        sum(CASE WHEN cost_nusd IS NULL THEN sign * ({_TOKENS}) ELSE 0 END),
        sum(sign * coalesce(cost_nusd, 0)), {", ".join(f"sum(sign * {name})" for name in _PLAIN)},
        gather_durations(duration_ms, sign), min(occurred_at), max(occurred_at)
    FROM (SELECT 1 AS sign, {_COUNTED} FROM event {_RANGE}
        UNION ALL SELECT sign, {_COUNTED} FROM entry {_RANGE})
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""

_ROLLUPS = {
    "rollup_agent": ("hour, agent, model, billing", True),
    "rollup_project": ("hour, project, model", True),
    "rollup_feature": ("hour, feature", False),
    "rollup_user": ("hour, user", False),
}
_ADD_RUNS = f"""INSERT INTO temp.run_sum
    SELECT run, {MEASURE_SUMS}, min(first_at), max(last_at) FROM temp.fine
    WHERE run IS NOT NULL GROUP BY run
    ON CONFLICT (run) DO UPDATE SET {MEASURE_ADDS},
        first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)"""
_RUN_SUMS = f"SELECT run, {MEASURE_LIST}, first_at, last_at FROM temp.run_sum ORDER BY run"
_RUNS = f"SELECT run, {MEASURE_LIST}, first_at, last_at FROM run WHERE org = ?1 ORDER BY run"
_RUN_TEXTS = "SELECT run, external_id FROM run WHERE org = ?1 AND external_id IS NOT NULL"
_AGENT_SUMS = f"""SELECT agent, {MEASURE_SUMS}, min(first_at), max(last_at) FROM rollup_agent
    WHERE org = ?1 GROUP BY agent ORDER BY agent"""
_AGENTS = f"SELECT agent, {MEASURE_LIST}, first_at, last_at FROM agent_total WHERE org = ?1 ORDER BY agent"
_NAMED = {
    "agent": "SELECT 1 FROM agent n WHERE n.org = ?1 AND n.agent = f.number",
    "project": "SELECT 1 FROM project n WHERE n.org = ?1 AND n.project = f.number",
    "feature": "SELECT 1 FROM feature n WHERE n.org = ?1 AND n.feature = f.number",
    "user": "SELECT 1 FROM user_label n WHERE n.org = ?1 AND n.user = f.number",
    "model": "SELECT 1 FROM model n WHERE n.org = ?1 AND n.model = f.number",
}


def prepare(connection: SqliteConnection) -> None:
    """Make the temporary tables and functions that the sums need."""
    connection.execute(_FINE)
    connection.execute(_RUN_SUM)
    # The stub knows aggregates of integers only; SQLite takes any value.
    connection.create_aggregate("gather_durations", 2, _GatherDurations)  # type: ignore[arg-type]
    connection.create_aggregate("add_durations", 1, _AddDurations)  # type: ignore[arg-type]


def group(scope: Scope, start: int, end: int) -> None:
    """Fill `temp.fine` with the groups of entries from `start` (included) to `end`, whole hours."""
    scope.connection.execute("DELETE FROM temp.fine")
    scope.rows(_FILL, start, end)


def check_rollups(scope: Scope, start: int, end: int) -> None:
    """Compare each roll-up of the grouped range with its entries."""
    for table, (dimensions, spread) in _ROLLUPS.items():
        names = [*dimensions.split(", "), *MEASURES, *(("durations", *_SPAN) if spread else ())]
        spreads = ", add_durations(durations), min(first_at), max(last_at)" if spread else ""
        expected = scope.connection.execute(
            f"""SELECT {dimensions}, {MEASURE_SUMS}{spreads} FROM temp.fine
                GROUP BY {dimensions} ORDER BY {dimensions}"""
        )
        stored = scope.rows(
            f"""SELECT {", ".join(names)} FROM {table}
                WHERE org = ?1 AND hour >= ?2 AND hour < ?3 ORDER BY {dimensions}""",
            start,
            end,
        )
        width = len(names) - len(MEASURES) - (3 if spread else 0)
        compare(scope, "rollups", table, expected, stored, names=names, width=width)


def check_names(scope: Scope) -> None:
    """Look up every name that the grouped range refers to; 0 stands for none, except for models."""
    for kind, lookup in _NAMED.items():
        least = 1 if kind == "model" else 0
        missing = scope.rows(
            f"""SELECT number FROM (SELECT DISTINCT {kind} AS number FROM temp.fine) AS f
                WHERE (number <> 0 OR {least}) AND NOT EXISTS ({lookup})"""
        )
        for (number,) in missing:
            scope.differs("names", kind, str(number), expected="a row", found=None)
    scope.findings.checked("names", scope.connection.execute("SELECT count(*) FROM temp.fine").fetchone()[0])


def add_runs(scope: Scope) -> None:
    """Add the grouped range to the sums of its runs."""
    scope.connection.execute(_ADD_RUNS)


def check_runs(scope: Scope) -> None:
    """Compare the runs with what was added since the last call, which must have been all of them."""
    names = ["run", *MEASURES, *_SPAN]
    expected = scope.connection.execute(_RUN_SUMS)
    compare(scope, "runs", "run", expected, scope.rows(_RUNS), names=names, width=1)
    for run, text in scope.rows(_RUN_TEXTS):
        if key_from_text(text) != run:
            key = key_text(["run"], [run])
            scope.differs("runs", "run", key, expected=uuid_text_from_id(key_from_text(text)), found=text)
    scope.connection.execute("DELETE FROM temp.run_sum")


def check_totals(scope: Scope) -> None:
    """Compare agents' totals with the hourly roll-up, which `check_rollups` holds to the entries."""
    names = ["agent", *MEASURES, *_SPAN]
    compare(
        scope, "totals", "agent_total", scope.rows(_AGENT_SUMS), scope.rows(_AGENTS), names=names, width=1
    )


class _GatherDurations:
    """SQL aggregate: durations in ms, each with its sign, as a packed histogram."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}

    def step(self, duration_ms: int, sign: int) -> None:
        """Add one call."""
        bucket = (duration_ms * duration_ms).bit_length()
        self._buckets[bucket] = self._buckets.get(bucket, 0) + sign

    def finalize(self) -> bytes:
        """Return the packed histogram."""
        return histogram.pack(self._buckets)


class _AddDurations:
    """SQL aggregate: the packed sum of packed histograms."""

    def __init__(self) -> None:
        self._total = histogram.EMPTY

    def step(self, packed: bytes) -> None:
        """Add one group."""
        self._total = packed if self._total is histogram.EMPTY else histogram.merge(self._total, packed)

    def finalize(self) -> bytes:
        """Return the packed histogram."""
        return self._total


def ranges(scope: Scope, rows: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Tile the time from `first` to `last` by whole hours, about `rows` events each."""
    hour_after = (
        "SELECT "
        + HOUR_OF.replace("occurred_at", "at")
        + (
            " + 3600000000 FROM (SELECT occurred_at AS at FROM event WHERE org = ?1 AND occurred_at >= ?2"
            " ORDER BY occurred_at LIMIT 1 OFFSET ?3)"
        )
    )
    start = first
    while start < last:
        found = scope.rows(hour_after, start, rows).fetchone()
        end = last if found is None else min(found[0], last)
        yield start, end
        start = end
