"""What was used in a span, by agent, by model or in all, from sums of past hours that are kept in memory.

    rollup_agent, rollup_project, rollup_feature, batch  →  SpanSums.used  →  `agent_lists`, `overview`

A month of many agents has hundreds of thousands of hourly rows, but nearly all of them are over. A
span is cut into pieces: whole UTC days, single hours near the present, and what its ends cut off
of an hour (read from the entries, so that every sum is exact). A piece is read once and kept until
a batch names an hour of it: `batch.hours` tells, so a late call, a correction and a new price are
seen with the very next question, whichever process wrote them: an organisation's batches become
visible in the order of their numbers. Nothing is kept that could not be read again.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from bursar.analytics.query import Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, hour_of
from bursar.storage.sql.ports import Cell, Connection

Used = tuple[int, int, int, int, int, int]
"""The fields of an `agents.Use`; a plain tuple, since hundreds of thousands of them are added up."""

Uses = dict[int, Used]
"""By the row number of an agent or a model; in all, under 0."""

KEPT_DAYS_MAX = 92
"""A longer span is summed at once, and not kept."""

KEPT_MAX = 400_000
"""Most sums kept of all organisations together: some 100 MB at the very most."""

BATCHES_MAX = 50_000
"""After so many new batches everything is read anew: looking through them would take longer."""

PIECES_MAX = 400
"""Most pieces kept of an organisation; those of a month and a week are some eighty."""

_MERGED_MAX = 8
_FINE_MICROS = 6 * MICROS_PER_HOUR
"""A day is cut into its hours until so long after its end: calls come late by minutes, seldom by hours."""

_LAST = "SELECT coalesce(max(seq), 0) FROM batch WHERE org = ?"
_TOUCHED = "SELECT DISTINCT hours FROM batch WHERE org = ? AND seq > ?"
_hours = msgspec.json.Decoder(list[int]).decode
_INPUT = "r.input_tokens + r.cache_read_tokens + r.cache_write_5m_tokens + r.cache_write_1h_tokens"
_OUTPUT = "r.output_tokens + r.reasoning_tokens"
_COST = "coalesce(r.cost_nusd, 0)"
# The two halves of a cost are added up apart: that of a whole organisation may leave 64 bits.
FOUND = (
    "who", "events", "high", "low", "input_tokens", "output_tokens", "duration_ms", "unpriced",
)  # fmt: skip
# A piece a statement: grouped by piece as well, all their rows would be sorted at once, at twice the cost.
_PIECE = """SELECT {who} AS who, {sums} FROM {table} AS r
    WHERE r.org = :org AND r.{time} >= :starts_at AND r.{time} < :ends_at GROUP BY 1"""
_SUMS = f"""SUM({{sign}} * {{calls}}) AS events, SUM({{sign}} * {_COST} >> 32) AS high,
    SUM({{sign}} * {_COST} & 4294967295) AS low, SUM({{sign}} * ({_INPUT})) AS input_tokens,
    SUM({{sign}} * ({_OUTPUT})) AS output_tokens, SUM({{sign}} * r.duration_ms) AS duration_ms,
    SUM({{sign}} * {{unpriced}}) AS unpriced"""
WHOLE_SUMS = _SUMS.format(sign="1", calls="r.requests", unpriced="r.unpriced_requests")
CUT_SUMS = {
    table: _SUMS.format(sign=sign, calls="1", unpriced="CASE WHEN r.cost_nusd IS NULL THEN 1 ELSE 0 END")
    for table, sign in (("event", "1"), ("entry", "r.sign"))
}
"""The sums of cut hours by the table that they are read from; they add up."""


class _Statements(NamedTuple):
    """Sums of pieces: of whole hours, and of cut ones, whose events and corrections add up."""

    whole: tuple[str, ...]
    cut: tuple[str, ...]


def _statements(table: str, who: str) -> _Statements:
    whole = _PIECE.format(who=who, table=table, time="hour", sums=WHOLE_SUMS)
    cut = (
        _PIECE.format(who=who, table=table, time="occurred_at", sums=sums) for table, sums in CUT_SUMS.items()
    )
    return _Statements((whole,), tuple(cut))


class Told(Enum):
    """What sums are told apart by, each read from the roll-up that has it with the fewest rows."""

    BY_AGENT = _statements("rollup_agent", "r.agent")
    BY_MODEL = _statements("rollup_project", "r.model")
    IN_ALL = _statements("rollup_feature", "0")


class SpanSums:
    """One per process and kind of sum; several reads may ask at once.

    Each works on a copy of its own and no lock is held while the database answers: it may
    answer others meanwhile, in the same thread.

    Args:
        told: What is told apart.
        kept_max: Most sums kept of all organisations together.
        pieces_max: Most pieces kept of each.
    """

    def __init__(self, told: Told, *, kept_max: int = KEPT_MAX, pieces_max: int = PIECES_MAX) -> None:
        self._statements = told.value
        self._kept_max = kept_max
        self._pieces_max = pieces_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[Org, _Kept] = OrderedDict()

    def used(self, connection: Connection, org: Org, spans: Sequence[Span], now: int) -> list[Uses]:
        """Return what was used in each span; agents or models that used nothing may be missing.

        Args:
            connection: With a snapshot begun. An older one than that of what is kept makes
                everything be read anew, so ask here first.
            org: Whose use.
            spans: Half-open; each on its own.
            now: The present; only decides how finely its neighbourhood is cut.
        """
        kept = self._copy_of(org)
        kept.follow(connection, org)
        fine = Span(_day(now - _FINE_MICROS), _day(now) + MICROS_PER_DAY)
        settled_to = hour_of(now) - MICROS_PER_HOUR
        found = []
        for span in spans:
            if span.ends_at - span.starts_at > KEPT_DAYS_MAX * MICROS_PER_DAY:
                found.append(merged(_read(self._statements, connection, org, whole_and_cut(span))))
                continue
            pieces = pieces_of(span, fine)
            kept.read(connection, org, pieces)
            found.append(kept.merged(pieces, settled_to))
        kept.forget_oldest(self._pieces_max)
        self._keep(org, kept)
        return found

    def _copy_of(self, org: Org) -> "_Kept":
        with self._lock:
            kept = self._kept.get(org)
            return _Kept(self._statements) if kept is None else kept.copy()

    def _keep(self, org: Org, kept: "_Kept") -> None:
        """Keep what a call has found, unless another one has seen a later batch meanwhile."""
        kept.size = sum(map(len, kept.pieces.values())) + sum(map(len, kept.settled.values()))
        with self._lock:
            there = self._kept.get(org)
            if there is None or there.seq <= kept.seq:
                self._kept[org] = kept
            self._kept.move_to_end(org)
            while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > self._kept_max:
                self._kept.popitem(last=False)


class _Kept:
    """One organisation's pieces, as they are after the batch numbered `seq`."""

    def __init__(self, statements: _Statements) -> None:
        self._statements = statements
        self.seq = 0
        self.pieces: OrderedDict[Span, Uses] = OrderedDict()
        self.settled: OrderedDict[tuple[Span, ...], Uses] = OrderedDict()
        self.size = 0

    def copy(self) -> "_Kept":
        """Return one that may change by itself; no sum is ever changed, so they share those."""
        other = _Kept(self._statements)
        other.seq, other.pieces, other.settled = self.seq, self.pieces.copy(), self.settled.copy()
        return other

    def follow(self, connection: Connection, org: Org) -> None:
        """Forget the pieces that were touched since, up to the snapshot's last batch."""
        last = int(connection.execute(_LAST, (org,)).fetchone()[0])
        if last - self.seq > BATCHES_MAX or last < self.seq:
            self.pieces.clear()
        elif last > self.seq and self.pieces:
            touched = {
                hour for (hours,) in connection.execute(_TOUCHED, (org, self.seq)) for hour in _hours(hours)
            }
            for piece in [piece for piece in self.pieces if _is_touched(piece, touched)]:
                del self.pieces[piece]
        self.seq = last
        for cold in [cold for cold in self.settled if not self.pieces.keys() >= set(cold)]:
            del self.settled[cold]

    def read(self, connection: Connection, org: Org, pieces: Iterable[Span]) -> None:
        """Read the pieces that are not there."""
        missing = [piece for piece in pieces if piece not in self.pieces]
        self.pieces.update(zip(missing, _read(self._statements, connection, org, missing), strict=True))
        for piece in pieces:
            self.pieces.move_to_end(piece)

    def forget_oldest(self, most: int) -> None:
        """Let go of what was not asked for lately."""
        while len(self.pieces) > most:
            self.pieces.popitem(last=False)

    def merged(self, pieces: Sequence[Span], settled_to: int) -> Uses:
        """Return the sum of pieces; that of those which end by `settled_to` is kept."""
        cold = tuple(piece for piece in pieces if piece.ends_at <= settled_to)
        found = self.settled.get(cold)
        if found is None:
            found = self.settled[cold] = merged([self.pieces[piece] for piece in cold])
            if len(self.settled) > _MERGED_MAX:
                self.settled.popitem(last=False)
        self.settled.move_to_end(cold)
        return merged([found, *(self.pieces[piece] for piece in pieces if piece.ends_at > settled_to)])


def whole_and_cut(span: Span) -> list[Span]:
    """Return a span's whole hours as one piece, and the ends that cut an hour as others."""
    first = -(-span.starts_at // MICROS_PER_HOUR) * MICROS_PER_HOUR
    last = hour_of(span.ends_at)
    ends = [Span(span.starts_at, first), Span(first, last), Span(last, span.ends_at)]
    if first > last:
        ends = [span]
    return [piece for piece in ends if piece.starts_at < piece.ends_at]


def pieces_of(span: Span, fine: Span) -> list[Span]:
    """Return the pieces of a span, in order: cut ends, days of UTC, and hours within `fine`.

    `fine` is whole days. What lies between an end and the nearest day's boundary is one piece.
    """
    found: list[Span] = []
    for part in whole_and_cut(span):
        if part.starts_at % MICROS_PER_HOUR or part.ends_at % MICROS_PER_HOUR:
            found.append(part)
            continue
        starts_at = part.starts_at
        while starts_at < part.ends_at:
            is_fine = fine.starts_at <= starts_at < fine.ends_at
            length = MICROS_PER_HOUR if is_fine else MICROS_PER_DAY
            ends_at = min((starts_at // length + 1) * length, part.ends_at)
            found.append(Span(starts_at, ends_at))
            starts_at = ends_at
    return found


def merged(parts: Sequence[Uses]) -> Uses:
    """Return the sum of several; a single one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    total: Uses = {}
    for part in parts:
        _add(total, part.items())
    return total


def _add(total: Uses, part: Iterable[tuple[int, Used]]) -> None:
    for agent, used in part:
        known = total.get(agent)
        if known is None:
            total[agent] = used
        else:
            a, b, c, d, e, f = used
            total[agent] = (
                known[0] + a,
                known[1] + b,
                known[2] + c,
                known[3] + d,
                known[4] + e,
                known[5] + f,
            )


def _read(statements: _Statements, connection: Connection, org: Org, pieces: Sequence[Span]) -> list[Uses]:
    """Return what was used in each piece: whole hours from the roll-up, cut ones from entries."""
    found: list[Uses] = []
    for starts_at, ends_at in pieces:
        is_cut = starts_at % MICROS_PER_HOUR or ends_at % MICROS_PER_HOUR
        asked = {"org": org, "starts_at": starts_at, "ends_at": ends_at}
        uses: Uses = {}
        for sql in statements.cut if is_cut else statements.whole:
            rows = connection.listed(sql, FOUND, asked)
            _add(uses, ((int(who or 0), use_from_cells(cells)) for who, *cells in rows))
        found.append(uses)
    return found


def use_from_cells(cells: Iterable[Cell]) -> Used:
    """Return what the columns of `FOUND` after the first say."""
    events, high, low, tokens_in, tokens_out, duration, unpriced = (int(cell or 0) for cell in cells)
    return events, (high << 32) + low, tokens_in, tokens_out, duration, unpriced


def _day(at: int) -> int:
    """Return the beginning of the UTC day that holds `at`."""
    return at - at % MICROS_PER_DAY


def _is_touched(piece: Span, touched: set[int]) -> bool:
    return any(hour in touched for hour in range(hour_of(piece.starts_at), piece.ends_at, MICROS_PER_HOUR))
