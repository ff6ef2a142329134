"""What the entries of a database add up to: `storage.sql.verify_ports.Sums` by grouping sets.

    entries of a range  →  one statement that groups by each roll-up's dimensions  →  a cursor over all

The server sorts, and spills to disk what it must; only portions come here. Nothing is written, so
that a role that may only read, or a standby, can prove a ledger as well.
"""

from collections import Counter
from collections.abc import Iterator
from math import isqrt
from operator import itemgetter

from bursar.ledger import histogram
from bursar.ledger.rows import MEASURES
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.sql.verify_ports import ROLLUPS, Rollup, Row
from bursar.storage.sql.verify_scope import HOUR_OF
from bursar.storage.sql.verify_sums import ENTRIES, ENTRY_SPAN, ENTRY_SUMS, RANGE

_BUCKETS = 126
"""The last bucket of `ledger.histogram` that a duration of 63 bits can be in."""


def _bucket(least: int, most: int) -> str:
    """Return SQL of the bucket of `duration_ms`, `(duration_ms ** 2).bit_length()`, as a byte, by halves."""
    if least == most:
        return f"'\\x{least:02x}'::bytea"
    middle = (least + most + 1) // 2
    edge = isqrt((1 << middle - 1) - 1) + 1
    return (
        f"CASE WHEN duration_ms < {edge} THEN {_bucket(least, middle - 1)} ELSE {_bucket(middle, most)} END"
    )


_COLUMNS = ("hour", "agent", "project", "feature", "user", "model", "billing")
_MARKED = ("agent", "project", "feature", "user")
"""Each roll-up has one of these, by which its rows are told from those of others."""

_SETS = ", ".join(f"({', '.join(rollup.dimensions)})" for rollup in ROLLUPS)
_ORDER = ", ".join(str(place) for place in range(1, len(_COLUMNS) + 2))
# One byte a call: the histogram of a group is counted here, from a string of its buckets.
_GROUPED = f"""SELECT GROUPING({", ".join(_MARKED)}) AS which, {", ".join(_COLUMNS)}, {ENTRY_SUMS},
        {ENTRY_SPAN}, string_agg(bucket, '') FILTER (WHERE sign > 0) AS called,
        string_agg(bucket, '') FILTER (WHERE sign < 0) AS reversed
    FROM (SELECT {HOUR_OF} AS hour, {_bucket(0, _BUCKETS)} AS bucket, e.* FROM {ENTRIES.format(RANGE)} AS e)
        AS g
    GROUP BY GROUPING SETS ({_SETS}) ORDER BY {_ORDER}"""
_ALL = "WHERE org = ?1"
_RUNS = f"""SELECT run, {ENTRY_SUMS}, {ENTRY_SPAN} FROM {ENTRIES.format(_ALL + " AND run IS NOT NULL")} AS e
    GROUP BY run ORDER BY run"""
_BATCHES = f"""SELECT batch, hour, CAST(sum(events) AS BIGINT), CAST(sum(entries) AS BIGINT)
    FROM (SELECT batch, {HOUR_OF} AS hour, 1 AS events, 0 AS entries FROM event {_ALL}
        UNION ALL SELECT batch, {HOUR_OF}, 0, 1 FROM entry {_ALL}) AS e
    GROUP BY batch, hour ORDER BY batch, hour"""


def _mark_of(rollup: Rollup) -> int:
    """Return what GROUPING gives for a roll-up's rows: a bit for each column that they lack."""
    return int("".join("0" if name in rollup.dimensions else "1" for name in _MARKED), 2)


class PostgresSums:
    """`storage.sql.verify_ports.Sums` within one read-only transaction."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._rows: Iterator[Row] = iter(())
        self._next: Row | None = None

    def group(self, org: int, start: int, end: int) -> None:
        """Let the server group a range; it is sorted when this returns."""
        self._rows = self._connection.stream(_GROUPED, (org, start, end))
        self._next = next(self._rows, None)

    def rollup(self, rollup: Rollup) -> Iterator[Row]:
        """Give a roll-up's sums, which come next."""
        mark = _mark_of(rollup)
        dimensions = itemgetter(*(1 + _COLUMNS.index(name) for name in rollup.dimensions))
        first = 1 + len(_COLUMNS)
        last = first + len(MEASURES)
        while self._next is not None and self._next[0] == mark:
            row, self._next = self._next, next(self._rows, None)
            if rollup.has_spread:
                yield (*dimensions(row), *row[first:last], _packed(row[-2], row[-1]), *row[last : last + 2])
            else:
                yield (*dimensions(row), *row[first:last])

    def gather(self, org: int, start: int, end: int) -> None:
        """Do nothing: the server adds all ranges up when it is asked for runs and batches."""

    def runs(self, org: int) -> Iterator[Row]:
        """Give each run's sums."""
        return self._connection.stream(_RUNS, (org,))

    def batches(self, org: int) -> Iterator[Row]:
        """Give batch, hour, events and entries."""
        return self._connection.stream(_BATCHES, (org,))

    def forget(self) -> None:
        """Keep no rows of a grouping."""
        self._rows, self._next = iter(()), None


def _packed(called: bytes | None, reversed_: bytes | None) -> bytes:
    """Return the histogram of calls, one byte each, without those that were taken back."""
    counts = Counter(called or b"")
    counts.subtract(reversed_ or b"")
    return histogram.pack(counts)
