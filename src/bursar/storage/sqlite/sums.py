"""What the entries of a file add up to: `storage.sql.verify_ports.Sums` in temporary tables.

    entries of a range  →  temp.fine, grouped once by everything  →  each roll-up, runs, batches

SQLite spills temporary tables to disk, so memory is bounded by the page cache.
"""

from collections.abc import Iterator

from bursar.ledger import histogram
from bursar.storage.sql.columns import MEASURE_ADDS, MEASURE_LIST, MEASURE_SUMS
from bursar.storage.sql.verify_ports import Rollup, Row
from bursar.storage.sql.verify_scope import HOUR_OF
from bursar.storage.sql.verify_sums import ENTRIES, ENTRY_SPAN, ENTRY_SUMS, RANGE
from bursar.storage.sqlite.connection import SqliteConnection

_DIMENSIONS = "agent, model, project, feature, user, billing, run"
_PREPARE = (
    f"CREATE TEMP TABLE fine (hour, {_DIMENSIONS}, {MEASURE_LIST}, durations, first_at, last_at)",
    f"""CREATE TEMP TABLE run_sum (run BLOB PRIMARY KEY, {MEASURE_LIST}, first_at, last_at)
        WITHOUT ROWID""",
    """CREATE TEMP TABLE touched (batch, hour, events, entries, PRIMARY KEY (batch, hour, entries))
        WITHOUT ROWID""",
)
_FILL = f"""INSERT INTO temp.fine
    SELECT {HOUR_OF}, {_DIMENSIONS}, {ENTRY_SUMS}, gather_durations(duration_ms, sign), {ENTRY_SPAN}
    FROM {ENTRIES.format(RANGE)} AS e GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""
_SUMS = f"SELECT {{0}}, {MEASURE_SUMS}{{1}} FROM temp.fine GROUP BY {{0}} ORDER BY {{0}}"
_SPREAD = ", add_durations(durations), min(first_at), max(last_at)"
_ADD_RUNS = f"""INSERT INTO temp.run_sum
    SELECT run, {MEASURE_SUMS}, min(first_at), max(last_at) FROM temp.fine
    WHERE run IS NOT NULL GROUP BY run
    ON CONFLICT (run) DO UPDATE SET {MEASURE_ADDS},
        first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)"""
_RUNS = f"SELECT run, {MEASURE_LIST}, first_at, last_at FROM temp.run_sum ORDER BY run"
_TOUCH_EVENTS = f"""INSERT INTO temp.touched
    SELECT batch, {HOUR_OF}, count(*), 0 FROM event {RANGE} GROUP BY 1, 2"""
_TOUCH_ENTRIES = f"""INSERT INTO temp.touched
    SELECT batch, {HOUR_OF}, 0, count(*) FROM entry {RANGE} GROUP BY 1, 2"""
_BATCHES = "SELECT batch, hour, events, entries FROM temp.touched ORDER BY batch, hour"


class SqliteSums:
    """`storage.sql.verify_ports.Sums` over one connection."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._grouped: tuple[int, int, int] | None = None
        for statement in _PREPARE:
            connection.execute(statement)
        # The stub knows aggregates of integers only; SQLite takes any value.
        connection.create_aggregate("gather_durations", 2, _GatherDurations)  # type: ignore[arg-type]
        connection.create_aggregate("add_durations", 1, _AddDurations)  # type: ignore[arg-type]

    def group(self, org: int, start: int, end: int) -> None:
        """Fill `temp.fine` with the groups of a range."""
        self._grouped = None
        self._connection.execute("DELETE FROM temp.fine")
        self._connection.execute(_FILL, (org, start, end))
        self._grouped = (org, start, end)

    def rollup(self, rollup: Rollup) -> Iterator[Row]:
        """Give a roll-up's sums of the grouped range."""
        spread = _SPREAD if rollup.has_spread else ""
        return self._connection.stream(_SUMS.format(", ".join(rollup.dimensions), spread))

    def gather(self, org: int, start: int, end: int) -> None:
        """Add a range, grouped once, to the sums of its runs and to its batches."""
        self._connection.execute(_TOUCH_EVENTS, (org, start, end))
        self._connection.execute(_TOUCH_ENTRIES, (org, start, end))
        if self._grouped != (org, start, end):
            self.group(org, start, end)
        self._connection.execute(_ADD_RUNS)

    def runs(self, org: int) -> Iterator[Row]:  # noqa: ARG002 - one is gathered at a time
        """Give each run of what was gathered."""
        return self._connection.stream(_RUNS)

    def batches(self, org: int) -> Iterator[Row]:  # noqa: ARG002
        """Give batch, hour, events and entries of what was gathered."""
        return self._connection.stream(_BATCHES)

    def forget(self) -> None:
        """Drop what was gathered."""
        self._grouped = None
        self._connection.execute("DELETE FROM temp.run_sum")
        self._connection.execute("DELETE FROM temp.touched")


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
