"""Budgets in SQLite, bound to one organisation: bulk loads into a book, and its writes.

`budgets.ports.BudgetStore` on the writer connection. A commit reads each row at most
once and writes it at most once; all statements seek by a key. Not here: lists for
readers (`budget_lists`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from bursar.budgets.book import Book, Occasion, TrackKey, Writes
from bursar.budgets.budget import Budget
from bursar.budgets.gate import GateKey
from bursar.budgets.incident import Decision, Incident, Resolution
from bursar.budgets.ports import Written
from bursar.budgets.window import Window, WindowKey
from bursar.core.ids import Org, new_id
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql import lease_counts
from bursar.storage.sql.ports import Connection

_IN_MAX = 64
"""Values in one list of a statement; more are looked up in several."""


def _upsert(table: str, key: str, columns: str) -> str:
    names = [name.strip() for name in columns.split(",")]
    keys = [name.strip() for name in key.split(",")]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return f"""INSERT INTO {table} (org, {columns}) VALUES (?{", ?" * len(names)})
        ON CONFLICT (org, {key}) DO UPDATE SET {changes}"""


_ACTIVE = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND deleted_at IS NULL ORDER BY id"
_BETWEEN = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id BETWEEN ? AND ?"
_BUDGETS_BY_ID = "SELECT id FROM budget WHERE org = ? AND id"
_HAS_ALERT = "SELECT 1 FROM alert WHERE org = ? AND budget = ? AND type = ? AND agent = ? LIMIT 1"
_PUT_BUDGET = _upsert("budget", "id", rows.BUDGET_COLUMNS)
_DELETE_BUDGET = "UPDATE budget SET deleted_at = ?3 WHERE org = ?1 AND id = ?2"
_LIST_EXCESS = """UPDATE budget_window SET lowered = settled + held - limit_amount - overrun - unheld
    WHERE org = ? AND budget = ? AND settled + held > limit_amount + overrun + unheld + lowered"""
_STAMP = "SELECT stamp FROM budget_stamp WHERE org = ?"
_PUT_STAMP = """INSERT INTO budget_stamp (org, stamp) VALUES (?, ?)
    ON CONFLICT (org) DO UPDATE SET stamp = excluded.stamp"""
_PUT_WINDOW = _upsert("budget_window", "budget, member, starts_at", rows.WINDOW_COLUMNS)
_PUT_HOLD = _upsert("hold", "id", rows.HOLD_COLUMNS)
_PUT_GATE = _upsert("gate", "kind, name", "kind, name, epoch, stops")
_PUT_INCIDENT = _upsert("incident", "id", rows.INCIDENT_COLUMNS)
_ADD_ALERT = f"INSERT INTO alert (org, {rows.ALERT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_CLOCK = """INSERT INTO decision_clock (org, last_at) VALUES (?, ?)
    ON CONFLICT (org) DO UPDATE SET last_at = max(decision_clock.last_at, excluded.last_at)"""
_ADD_POSTING = """INSERT INTO posting (org, source, part, effect, at, parts) VALUES (?1, ?2,
    coalesce((SELECT max(part) + 1 FROM posting WHERE org = ?1 AND source = ?2), 0), ?3, ?4, ?5)"""
_ADD_APPROVAL = """INSERT INTO approval
    (org, id, incident, at, resolution, actor, note, limit_amount, until)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_APPROVED = """SELECT resolution, actor, note, limit_amount, until FROM approval
    WHERE org = ? AND incident = ?"""

HOLDS = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ?"
# Indexes are named where the planner, which knows no counts, would rather walk the organisation.
HOLDS_BY_ID = f"SELECT {rows.HOLD_COLUMNS} FROM hold WHERE org = ? AND id"
HOLDS_BY_KEY = f"SELECT {rows.HOLD_COLUMNS} FROM hold INDEXED BY hold_by_key WHERE org = ? AND key"
_ANY_HOLD = "SELECT 1 FROM hold WHERE org = ? LIMIT 1"
_HOLD_IDS = "SELECT id FROM hold WHERE org = ? AND id"
WINDOWS = f"SELECT {rows.WINDOW_COLUMNS} FROM budget_window WHERE org = ?"
_TRACK = f"{WINDOWS} AND budget = ? AND member = ?"
_LATEST = f"{_TRACK} ORDER BY starts_at DESC LIMIT 1"
_BEFORE = f"{_TRACK} AND starts_at <= ? ORDER BY starts_at DESC LIMIT 1"
_AFTER = f"{_TRACK} AND starts_at > ? ORDER BY starts_at LIMIT 1"
_ONE = f"{_TRACK} AND starts_at = ?"
_RUNNING_WINDOWS = f"""SELECT {rows.WINDOW_COLUMNS} FROM budget_window INDEXED BY budget_window_running
    WHERE org = ? AND state <> 'closed'"""
_RUNNING = f"{_RUNNING_WINDOWS} AND budget = ?"
_DUE = f"""{_RUNNING_WINDOWS} AND state = 'open'
    AND (ends_at <= ? OR (member <> '' AND open_legs = 0 AND touched_at <= ?))
    AND budget IN (SELECT id FROM budget WHERE org = ? AND deleted_at IS NULL) LIMIT ?"""
_GATE = "SELECT kind, name, epoch, stops FROM gate WHERE org = ? AND kind = ? AND name = ?"
_ANY_GATE = "SELECT 1 FROM gate WHERE org = ? LIMIT 1"
_POSTED = "SELECT parts FROM posting WHERE org = ? AND source = ?"
_DUE_HOLDS = """SELECT id FROM hold WHERE org = ? AND state = 'open' AND expires_at <= ?
    ORDER BY expires_at LIMIT ?"""
_SUSPENDED = "SELECT id FROM hold WHERE org = ? AND state = 'suspense' AND id > ? ORDER BY id LIMIT ?"
_INCIDENT = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ? AND id = ?"
# An organisation after the other: the job asks each second, however many holds are open.
_ORGS_DUE = """SELECT org FROM decision_clock AS o
    WHERE EXISTS (SELECT 1 FROM hold INDEXED BY hold_open
            WHERE org = o.org AND state = 'open' AND expires_at <= ?1)
        OR EXISTS (SELECT 1 FROM incident INDEXED BY incident_due
            WHERE org = o.org AND resolution = 'raised_until' AND ended_at IS NULL AND until <= ?1)"""
_DUE_RAISES = """SELECT id FROM incident INDEXED BY incident_due
    WHERE org = ? AND resolution = 'raised_until' AND ended_at IS NULL AND until <= ?
    ORDER BY until, id LIMIT ?"""
_STANDING_RAISES = f"""SELECT {rows.INCIDENT_COLUMNS} FROM incident INDEXED BY incident_due
    WHERE org = ? AND resolution = 'raised_until' AND ended_at IS NULL
    AND budget = ? AND member = ? AND starts_at = ?"""
_ORGS_WITH_BUDGETS = "SELECT org FROM decision_clock"
_LAST_DECIDED = "SELECT coalesce(max(last_at), 0) FROM decision_clock"


def last_decided_at(connection: Connection) -> int:
    """Return the latest time by which this file decided anything, 0 for none: where the clock goes on."""
    return int(connection.execute(_LAST_DECIDED).fetchone()[0])


def orgs_due(connection: Connection, at: int) -> list[Org]:
    """Return the organisations with a hold or a raise that is over at `at`."""
    return [Org(row[0]) for row in connection.execute(_ORGS_DUE, (at,))]


def orgs_with_budgets(connection: Connection) -> list[Org]:
    """Return the organisations that have budgets: each that has ever decided anything, or will."""
    return [Org(row[0]) for row in connection.execute(_ORGS_WITH_BUDGETS)]


class SqlBudgets:
    """`budgets.ports.BudgetStore` on the writer connection.

    `know_agent` enters a hold's agent in the directory: one that asks before its first call is
    known before it spends.
    """

    def __init__(
        self,
        connection: Connection,
        org: Org,
        know_agent: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._connection = connection
        self._org = org
        self._know_agent = know_agent

    async def active(self) -> list[Budget]:
        """Return the budgets that are not deleted, in order of id."""
        return [rows.budget_of(row) for row in self._connection.execute(_ACTIVE, (self._org,))]

    async def named_between(self, first: bytes, last: bytes) -> list[Budget]:
        """Return the budgets with ids from `first` to `last`, those that have ended too."""
        return [rows.budget_of(row) for row in self._connection.execute(_BETWEEN, (self._org, first, last))]

    async def exists(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of the ids that a budget has, deleted ones included."""
        found: set[bytes] = set()
        for part in _parts(ids):
            sql = f"{_BUDGETS_BY_ID} IN ({', '.join('?' * len(part))})"
            found.update(row[0] for row in self._connection.execute(sql, (self._org, *part)))
        return found

    async def stamp(self) -> bytes:
        """Return the stamp of the last change, empty before the first."""
        row = self._connection.execute(_STAMP, (self._org,)).fetchone()
        return b"" if row is None else bytes(row[0])

    async def put(self, budget: Budget) -> None:
        """Store a budget, new or changed."""
        self._connection.execute(_PUT_STAMP, (self._org, new_id()))
        self._connection.execute(_PUT_BUDGET, (self._org, *rows.row_of_budget(budget)))

    async def list_excess(self, budget_id: bytes) -> None:
        """List what a budget's windows used beyond their limits as `lowered`."""
        self._connection.execute(_LIST_EXCESS, (self._org, budget_id))

    async def mark_deleted(self, budget_id: bytes, at: int) -> None:
        """Take a budget out of the active ones."""
        self._connection.execute(_DELETE_BUDGET, (self._org, budget_id, at))
        self._connection.execute(_PUT_STAMP, (self._org, new_id()))

    async def load_holds(self, book: Book, ids: Collection[bytes], keys: Collection[bytes]) -> None:
        """Load holds by id and by key; one that is named by both is one object."""
        for lookup, values in ((HOLDS_BY_ID, ids), (HOLDS_BY_KEY, keys)):
            for part in _parts(values):
                sql = f"{lookup} IN ({', '.join('?' * len(part))})"
                for row in self._connection.execute(sql, (self._org, *part)):
                    if row[0] not in book.holds:
                        book.load_hold(rows.hold_of(row))

    async def load_tracks(self, book: Book, tracks: Mapping[TrackKey, Collection[int]]) -> None:
        """Load of each track the latest window; for instants before it, their neighbours too."""
        execute = self._connection.execute
        for key in sorted(tracks):
            where = (self._org, *key)
            row = execute(_LATEST, where).fetchone()
            if row is None:
                book.load_track(key)
                continue
            found = {row[2]: row}
            for at in tracks[key]:
                if at < row[2]:
                    for sql in (_BEFORE, _AFTER):
                        near = execute(sql, (*where, at)).fetchone()
                        if near is not None:
                            found[near[2]] = near
            book.load_track(key, [rows.window_of(one) for one in found.values()])

    async def load_legs(self, book: Book) -> None:
        """Load the windows of the legs of all loaded holds."""
        self._load_windows(book, {leg.window for hold in book.holds.values() for leg in hold.legs})

    async def load_leases(self, book: Book) -> None:
        """Load of each open lease the windows that it spends from."""
        book.leases = lease_counts.windows_of_leases(self._connection, self._org)

    async def has_gates(self) -> bool:
        """Tell whether any gate has a row."""
        return self._connection.execute(_ANY_GATE, (self._org,)).fetchone() is not None

    async def load_gates(self, book: Book, keys: Collection[GateKey]) -> None:
        """Load gates; nothing is asked for one by one where no gate was ever stopped."""
        execute = self._connection.execute
        if not keys or not await self.has_gates():
            return
        for kind, name in keys:
            row = execute(_GATE, (self._org, kind.value, name)).fetchone()
            if row is not None:
                book.gates.load(rows.gate_of(row))

    async def load_running(self, book: Book, budget_id: bytes) -> None:
        """Load every window of a budget that is not closed."""
        for row in self._connection.execute(_RUNNING, (self._org, budget_id)):
            book.load_window(rows.window_of(row))

    async def holds_among(self, ids: Collection[bytes]) -> set[bytes]:
        """Return those of the ids that are a hold's; one question where there are no holds."""
        execute, found = self._connection.execute, set[bytes]()
        if not ids or execute(_ANY_HOLD, (self._org,)).fetchone() is None:
            return found
        for part in _parts(ids):
            sql = f"{_HOLD_IDS} IN ({', '.join('?' * len(part))})"
            found.update(row[0] for row in execute(sql, (self._org, *part)))
        return found

    async def load_posted(self, book: Book, sources: Collection[bytes]) -> dict[bytes, list[WindowKey]]:
        """Load the windows that these events were posted to."""
        found: dict[bytes, list[WindowKey]] = {}
        for source in sources:
            packed = self._connection.execute(_POSTED, (self._org, source)).fetchall()
            keys = {key for (parts,) in packed for key, _ in rows.parts_of(parts)}
            self._load_windows(book, keys)
            found[source] = sorted(keys)
        return found

    async def due_holds(self, at: int, most: int) -> list[bytes]:
        """Return ids of open holds whose time is over, the longest overdue first."""
        return [row[0] for row in self._connection.execute(_DUE_HOLDS, (self._org, at, most))]

    async def suspended_holds(self, after: bytes, most: int) -> list[bytes]:
        """Return ids of holds in suspense, in order, from behind `after`."""
        return [row[0] for row in self._connection.execute(_SUSPENDED, (self._org, after, most))]

    async def due_raises(self, at: int, most: int) -> list[bytes]:
        """Return incidents whose raise is over, the longest overdue first."""
        return [row[0] for row in self._connection.execute(_DUE_RAISES, (self._org, at, most))]

    async def standing_raises(self, window: WindowKey) -> list[Incident]:
        """Return the incidents of a window whose raise is not taken back yet."""
        found = self._connection.execute(_STANDING_RAISES, (self._org, *window))
        return [rows.incident_of(row) for row in found]

    async def load_due(self, book: Book, at: int, quiet_since: int, most: int) -> int:
        """Load open windows of active budgets that may be over."""
        found = self._connection.execute(_DUE, (self._org, at, quiet_since, self._org, most)).fetchall()
        for row in found:
            book.load_window(rows.window_of(row))
        return len(found)

    async def incident(self, incident_id: bytes) -> Incident | None:
        """Return an incident."""
        row = self._connection.execute(_INCIDENT, (self._org, incident_id)).fetchone()
        return None if row is None else rows.incident_of(row)

    async def approve(self, approval_id: bytes, incident_id: bytes, decision: Decision, at: int) -> None:
        """Keep what a person decided about an incident."""
        d = decision
        values = (approval_id, incident_id, at, d.resolution.value, d.actor, d.note, d.limit, d.until)
        self._connection.execute(_ADD_APPROVAL, (self._org, *values))

    async def approved(self, incident_id: bytes) -> Decision | None:
        """Return what was decided about an incident."""
        row = self._connection.execute(_APPROVED, (self._org, incident_id)).fetchone()
        return None if row is None else Decision(Resolution(row[0]), *row[1:])

    async def has_alert(self, occasion: Occasion, budget_id: bytes, agent: str) -> bool:
        """Tell whether such an alert was raised for an agent before."""
        where = (self._org, budget_id, occasion.value, agent)
        return self._connection.execute(_HAS_ALERT, where).fetchone() is not None

    async def write(self, writes: Writes, beside: Written) -> None:
        """Write each window and hold once, append the postings, move the clock on."""
        many, org, at = self._connection.executemany, self._org, beside.at
        many(_PUT_WINDOW, [(org, *rows.row_of_window(window)) for window in writes.windows])
        for hold in writes.holds:
            self._know_agent(hold.call.agent)
        many(_PUT_HOLD, [(org, *rows.row_of_hold(hold)) for hold in writes.holds])
        many(
            _ADD_POSTING,
            [(org, p.source, p.effect.value, at, rows.packed_parts(p.parts)) for p in writes.postings],
        )
        many(_PUT_GATE, [(org, *rows.row_of_gate(gate)) for gate in beside.gates])
        many(_PUT_INCIDENT, [(org, *rows.row_of_incident(one)) for one in beside.incidents])
        many(_ADD_ALERT, [(org, *rows.row_of_alert(alert)) for alert in beside.alerts])
        self._connection.execute(_PUT_CLOCK, (org, at))

    def _load_windows(self, book: Book, keys: Iterable[WindowKey]) -> None:
        for key in keys:
            if key not in book.windows:
                row = self._connection.execute(_ONE, (self._org, *key)).fetchone()
                window: Window = rows.window_of(row)
                book.load_window(window)


def _parts(values: Collection[bytes]) -> Iterable[list[bytes]]:
    """Yield the different values in lists that one statement takes."""
    different = list(dict.fromkeys(values))
    for start in range(0, len(different), _IN_MAX):
        yield different[start : start + _IN_MAX]
