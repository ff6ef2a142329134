"""Budgets in PostgreSQL: loads and writes in few round trips.

What `storage.sql.budgets` asks row by row is asked here for all rows at once; each answer
is the same, as the organisation's lock keeps it from changing meanwhile.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from bursar.budgets.book import Book, TrackKey, Writes
from bursar.budgets.gate import GateKey
from bursar.budgets.ports import Written
from bursar.budgets.window import WindowKey
from bursar.core.ids import Org
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.budgets import SqlBudgets
from bursar.storage.sql.ports import Connection

_WINDOWS = ", ".join(f"w.{name.strip()}" for name in rows.WINDOW_COLUMNS.split(","))

_STATE = """SELECT (SELECT stamp FROM budget_stamp WHERE org = ?1),
    (SELECT last_at FROM decision_clock WHERE org = ?1),
    EXISTS (SELECT 1 FROM gate WHERE org = ?1)"""
_HOLDS_BY_ID = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id = ANY(?::bytea[])"
_HOLDS_BY_KEY = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND key = ANY(?::bytea[])"
_HOLD_IDS = "SELECT id FROM hold WHERE org = ? AND id = ANY(?::bytea[])"
_BUDGET_IDS = "SELECT id FROM budget WHERE org = ? AND id = ANY(?::bytea[])"
_LATEST = f"""SELECT {_WINDOWS} FROM unnest(?2::bytea[], ?3::text[]) AS one (budget, member)
    CROSS JOIN LATERAL (SELECT * FROM budget_window
        WHERE org = ?1 AND budget = one.budget AND member = one.member
        ORDER BY starts_at DESC LIMIT 1) AS w"""
_NEAR = f"""SELECT {_WINDOWS}
    FROM unnest(?2::bytea[], ?3::text[], ?4::bigint[]) AS one (budget, member, at)
    CROSS JOIN LATERAL (
        (SELECT * FROM budget_window
            WHERE org = ?1 AND budget = one.budget AND member = one.member AND starts_at <= one.at
            ORDER BY starts_at DESC LIMIT 1)
        UNION ALL
        (SELECT * FROM budget_window
            WHERE org = ?1 AND budget = one.budget AND member = one.member AND starts_at > one.at
            ORDER BY starts_at LIMIT 1)) AS w"""
_EACH = f"""SELECT {_WINDOWS}
    FROM unnest(?2::bytea[], ?3::text[], ?4::bigint[]) AS one (budget, member, starts_at)
    JOIN budget_window w ON w.org = ?1 AND w.budget = one.budget AND w.member = one.member
        AND w.starts_at = one.starts_at"""
_GATES = """SELECT g.kind, g.name, g.epoch, g.stops FROM unnest(?2::text[], ?3::text[]) AS one (kind, name)
    JOIN gate g ON g.org = ?1 AND g.kind = one.kind AND g.name = one.name"""
_POSTED = "SELECT source, parts FROM posting WHERE org = ? AND source = ANY(?::bytea[])"


class PostgresBudgets(SqlBudgets):
    """`budgets.ports.BudgetStore` within a transaction that holds the organisation's lock.

    `hear` is told by which time the organisation's budgets were decided last, by any process.
    """

    def __init__(
        self,
        connection: Connection,
        org: Org,
        know_agent: Callable[[str], None],
        hear: Callable[[int], None],
    ) -> None:
        super().__init__(connection, org, know_agent)
        self._hear = hear
        self._has_gates: bool | None = None

    async def stamp(self) -> bytes:
        """Return the stamp of the last change, empty before the first; hear of the last decision."""
        stamp, last_at, self._has_gates = self._ask(_STATE).fetchone()
        if last_at is not None:
            self._hear(last_at)
        return bytes(stamp or b"")

    async def has_gates(self) -> bool:
        """Tell whether any gate has a row."""
        if self._has_gates is None:
            self._has_gates = await super().has_gates()
        return self._has_gates

    async def exists(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of the ids that a budget has, deleted ones included."""
        return {row[0] for row in self._ask(_BUDGET_IDS, list(ids))}

    async def load_holds(self, book: Book, ids: Collection[bytes], keys: Collection[bytes]) -> None:
        """Load holds by id and by key; one that is named by both is one object."""
        for lookup, values in ((_HOLDS_BY_ID, ids), (_HOLDS_BY_KEY, keys)):
            for row in self._ask(lookup, list(values)) if values else ():
                if row[0] not in book.holds:
                    book.load_hold(rows.hold_of(row))

    async def load_tracks(self, book: Book, tracks: Mapping[TrackKey, Collection[int]]) -> None:
        """Load of each track the latest window; for instants before it, their neighbours too."""
        if not tracks:
            return
        found: dict[TrackKey, dict[int, Any]] = {key: {} for key in tracks}
        latest = {row[:2]: row[2] for row in self._windows(found, _LATEST, tracks)}
        earlier = [
            (*key, at) for key, instants in tracks.items() for at in instants if at < latest.get(key, at)
        ]
        if earlier:
            self._windows(found, _NEAR, earlier)
        for key in sorted(tracks):
            book.load_track(key, [rows.window_of(row) for row in found[key].values()])

    async def load_gates(self, book: Book, keys: Collection[GateKey]) -> None:
        """Load gates; nothing is asked where no gate was ever stopped."""
        if not keys or not await self.has_gates():
            return
        for row in self._ask(_GATES, [key.kind.value for key in keys], [key.name for key in keys]):
            book.gates.load(rows.gate_of(row))

    async def holds_among(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of the ids that are a hold's."""
        return {row[0] for row in self._ask(_HOLD_IDS, sorted(set(ids)))} if ids else set()

    async def load_posted(self, book: Book, sources: Collection[bytes]) -> dict[bytes, list[WindowKey]]:
        """Load the windows that these events were posted to."""
        found: dict[bytes, set[WindowKey]] = {source: set() for source in sources}
        for source, parts in self._ask(_POSTED, list(found)):
            found[source].update(key for key, _ in rows.parts_of(parts))
        self._load_windows(book, set().union(*found.values()))
        return {source: sorted(keys) for source, keys in found.items()}

    async def write(self, writes: Writes, beside: Written) -> None:
        """Write each window and hold once, append the postings, move the clock on."""
        await super().write(writes, beside)
        if beside.gates:
            self._has_gates = True

    def _load_windows(self, book: Book, keys: Iterable[WindowKey]) -> None:
        missing = [key for key in keys if key not in book.windows]
        if missing:
            for row in self._ask(_EACH, *map(list, zip(*missing, strict=True))):
                book.load_window(rows.window_of(row))

    def _windows(
        self, found: dict[TrackKey, dict[int, Any]], sql: str, asked: Iterable[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """Ask for windows of tracks, add them to what was found of each, and return them."""
        listed = [tuple(row) for row in self._ask(sql, *map(list, zip(*asked, strict=True)))]
        for row in listed:
            found[row[:2]][row[2]] = row
        return listed

    def _ask(self, sql: str, *values: object) -> Any:  # noqa: ANN401 - `Rows`
        return self._connection.execute(sql, (self._org, *values))
