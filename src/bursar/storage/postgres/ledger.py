"""The ledger in PostgreSQL: keys are taken, rows and sums written, a batch at a time.

Events go by COPY into a table of the connection's own and from there into theirs, since COPY does
not go into tables with row-level security; behind a pooler, where a connection owns nothing, and
for everything else, values go over as one array a column and come apart there (`unnest`).
Histograms are merged here, of rows that nobody else can change meanwhile: the transaction
holds the organisation's lock.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.ingestion.ports import Claim, Standing
from bursar.ledger import histogram
from bursar.ledger.posting import Posting, RollUps
from bursar.ledger.rows import ENTRY_COLUMNS, MEASURES, PLAIN_COLUMNS, EntryRow
from bursar.storage.postgres.connection import PostgresConnection
from bursar.storage.postgres.partitions import Months
from bursar.storage.sql.columns import ENTRY_COLUMN_LIST, measure_adds, span_adds
from bursar.storage.sql.ledger import SqlLedger, beyond_caps, run_row, run_texts, spread_rows

_BYTES = frozenset({"key", "run", "session", "hold", "durations", "parent"})
_TEXT = frozenset({"media", "attributes", "external_id", "text"})

STAGED_MIN = 100
"""Events that are worth a table of their own on the way; fewer go as arrays."""

Rows = Collection[Sequence[Any]]


def kind_of(column: str) -> str:
    """Return the type of a column of the ledger's tables."""
    return "bytea" if column in _BYTES else "text" if column in _TEXT else "bigint"


def _arrays(columns: Iterable[str]) -> str:
    """Return an `unnest` of one parameter a column, as a table `one`."""
    names = list(columns)
    marks = ", ".join(f"?::{kind_of(name)}[]" for name in names)
    return f"unnest({marks}) AS one ({', '.join(map(_quoted, names))})"


def _quoted(column: str) -> str:
    return f'"{column}"'


def _insert(table: str, columns: Iterable[str], conflict: str = "") -> str:
    names = list(columns)
    listed = ", ".join(map(_quoted, names))
    return f"INSERT INTO {table} (org, {listed}) SELECT ?, one.* FROM {_arrays(names)} {conflict}"


class _Sums(NamedTuple):
    """A roll-up: its dimensions, its other columns, and how a row gains an upsert's values."""

    table: str
    dimensions: tuple[str, ...]
    more: tuple[str, ...] = ()
    adds: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns but the organisation, as rows have them."""
        return (*self.dimensions, *MEASURES, *self.more)

    @property
    def add(self) -> str:
        """The upsert."""
        keys = ", ".join(map(_quoted, self.dimensions))
        adds = f"{measure_adds(self.table)}{self.adds}"
        return _insert(self.table, self.columns, f"ON CONFLICT (org, {keys}) DO UPDATE SET {adds}")

    def durations(self, number: int) -> str:
        """A SELECT of the histograms that stand: `number`, the row's place among those asked for, bytes."""
        same = " AND ".join(f"r.{name} = one.{name}" for name in self.dimensions)
        arrays = ", ".join("?::bigint[]" for _ in self.dimensions)
        return f"""SELECT {number}, one.place, r.durations
            FROM unnest({arrays}) WITH ORDINALITY AS one ({", ".join(self.dimensions)}, place)
            JOIN {self.table} r ON r.org = ? AND {same}"""


_SPAN = ("first_at", "last_at")


def _spread(table: str, *dimensions: str) -> _Sums:
    adds = f", durations = excluded.durations, {span_adds(table)}"
    return _Sums(table, dimensions, ("durations", *_SPAN), adds)


BY_AGENT = _spread("rollup_agent", "hour", "agent", "model", "billing")
BY_PROJECT = _spread("rollup_project", "hour", "project", "model")
BY_FEATURE = _Sums("rollup_feature", ("hour", "feature"))
BY_USER = _Sums("rollup_user", ("hour", "user"))
AGENTS = _Sums("agent_total", ("agent",), _SPAN, f", {span_adds('agent_total')}")
_SPREAD = (BY_AGENT, BY_PROJECT)
_DURATIONS = " UNION ALL ".join(kind.durations(number) for number, kind in enumerate(_SPREAD))
_RUN_COLUMNS = ("run", "external_id", "parent", "agent", *MEASURES, *_SPAN)
ADD_RUNS = f"""{_insert("run", _RUN_COLUMNS)}
    ON CONFLICT (org, run) DO UPDATE SET {measure_adds("run")}, {span_adds("run")},
        parent = coalesce(run.parent, excluded.parent)"""
_PLAIN_SUMS = (BY_FEATURE, BY_USER, AGENTS)
_ADD_ALL = f"""WITH {", ".join(f"of_{kind.table} AS ({kind.add})" for kind in (*_SPREAD, *_PLAIN_SUMS))}
    {ADD_RUNS}"""
"""Every roll-up in one round trip."""

STAGE = f"""CREATE TEMP TABLE staged_event ({", ".join(f"{_quoted(n)} {kind_of(n)}" for n in ENTRY_COLUMNS)})
    ON COMMIT DELETE ROWS"""
"""What a connection of the writing pool runs when it is made."""

_FROM_STAGE = """INSERT INTO event (org, {0}) SELECT ?, {0} FROM pg_temp.staged_event"""
_STAGED = _FROM_STAGE.format(", ".join(map(_quoted, ENTRY_COLUMNS)))
_STAGED_PLAIN = _FROM_STAGE.format(", ".join(map(_quoted, PLAIN_COLUMNS)))
_CLAIM = f"""INSERT INTO event_key (org, key, occurred_at, revision)
    SELECT ?, one.* FROM {_arrays(("key", "occurred_at", "revision"))}
    ON CONFLICT DO NOTHING RETURNING key"""
_EVENTS = _insert("event", ENTRY_COLUMNS)
_PLAIN_EVENTS = _insert("event", PLAIN_COLUMNS)
_UNPRICED = _insert("unpriced_event", ("model", "occurred_at", "key"), "ON CONFLICT DO NOTHING")
_PROMPTS = _insert("prompt", ("occurred_at", "key", "text"), "ON CONFLICT DO NOTHING")

_STANDING_EVENTS = f"""SELECT k.revision, NULL::bigint, {", ".join(f'e."{name}"' for name in ENTRY_COLUMNS)}
    FROM event_key k JOIN event e ON e.org = k.org AND e.occurred_at = k.occurred_at AND e.key = k.key
    WHERE k.org = ? AND k.key = ANY(?::bytea[])"""
_STANDING_ENTRIES = f"""SELECT DISTINCT ON (key) revision, seq, {ENTRY_COLUMN_LIST} FROM entry
    WHERE org = ? AND key = ANY(?::bytea[]) AND sign = 1 ORDER BY key, seq DESC"""
_AGENT_NAMES = "SELECT agent, name FROM agent WHERE org = ? AND agent = ANY(?::bigint[])"
_MODEL_NAMES = "SELECT model, provider, name FROM model WHERE org = ? AND model = ANY(?::bigint[])"
_RUN_TEXTS = "SELECT run, external_id, parent FROM run WHERE org = ? AND run = ANY(?::bytea[])"


class PostgresLedger(SqlLedger):
    """`ingestion.ports.LedgerWriter` within a transaction that holds the organisation's lock.

    `take_stage` tells, once in a transaction, that `STAGE`'s table is there and empty.
    """

    def __init__(
        self, connection: PostgresConnection, org: Org, months: Months, take_stage: Callable[[], bool]
    ) -> None:
        super().__init__(connection, org)
        self._own = connection
        self._months = months
        self._take_stage = take_stage

    async def claim(self, events: Sequence[UsageEvent]) -> Claim:
        """Take the keys that are new; the database says which."""
        if not events:
            return Claim((), ())
        first: dict[bytes, UsageEvent] = {}
        for event in events:
            first.setdefault(event.key, event)
        rows = [(key, first[key].occurred_at, first[key].revision) for key in sorted(first)]
        taken = {row[0] for row in self.connection.execute(_CLAIM, (self.org, *_columns(rows)))}
        if len(taken) == len(events):
            return Claim(range(len(events)), ())
        fresh: list[int] = []
        known: list[int] = []
        for index, event in enumerate(events):
            (fresh if event.key in taken else known).append(index)
            taken.discard(event.key)
        return Claim(fresh, known)

    async def standings(self, keys: Collection[bytes]) -> Mapping[bytes, Standing]:
        """Return what stands for each of the keys that are known, in five questions for all of them."""
        found: dict[bytes, tuple[int, int | None, EntryRow]] = {}
        for statement in (_STANDING_EVENTS, _STANDING_ENTRIES):
            for revision, seq, *values in self._among(statement, keys):
                row = EntryRow._make(values)
                found[row.key] = (revision, seq, row)
        rows = [row for _, _, row in found.values()]
        agents = {row[0]: row[1] for row in self._among(_AGENT_NAMES, {row.agent for row in rows})}
        models = {row[0]: (row[1], row[2]) for row in self._among(_MODEL_NAMES, {r.model for r in rows})}
        runs = {
            run: run_texts(run, text, parent)
            for run, text, parent in self._among(_RUN_TEXTS, {r.run for r in rows if r.run is not None})
        }
        return {
            key: Standing(
                row, revision, seq, *(("", "") if row.run is None else runs[row.run]),
                beyond_caps(row, (agents.get(row.agent, ""), *models[row.model])),
            )
            for key, (revision, seq, row) in found.items()
        }  # fmt: skip

    async def append(self, posting: Posting, prompts: Sequence[UsageEvent]) -> None:
        """Write the event rows in their months, what they add to roll-ups, and prompts."""
        await self._months.ensure({hour for hour, *_ in posting.rollups.by_agent})
        self._add_events([row[1:] for row in posting.plain_rows], [row[1:] for row in posting.rows])
        self._write(_UNPRICED, posting.unpriced)
        self._write(_PROMPTS, [(event.occurred_at, event.key, event.prompt) for event in prompts])
        self._add(posting.rollups)

    def _add_events(self, plain: Rows, whole: Rows) -> None:
        if len(plain) + len(whole) < STAGED_MIN or not self._take_stage():
            self._write(_PLAIN_EVENTS, plain)
            self._write(_EVENTS, whole)
            return
        for columns, rows in ((PLAIN_COLUMNS, plain), (ENTRY_COLUMNS, whole)):
            if rows:
                self._own.copy("staged_event", columns, rows)
        self._own.execute(_STAGED if whole else _STAGED_PLAIN, (self.org,))

    def _add(self, rollups: RollUps) -> None:
        """Add all deltas; of rows that keep a histogram, what stands is read and merged first."""
        org = self.org
        agents = [(*key, *s.measures, s.first_at, s.last_at) for key, s in rollups.agents.items()]
        spread = [
            [list(row[1:]) for row in spread_rows(org, items)]
            for items in (rollups.by_agent.items(), rollups.by_project.items())
        ]
        self._merge_durations(spread)
        rows: tuple[tuple[_Sums, Rows], ...] = (
            *zip(_SPREAD, spread, strict=True),
            (BY_FEATURE, [(*key, *sums.measures) for key, sums in rollups.by_feature.items()]),
            (BY_USER, [(*key, *sums.measures) for key, sums in rollups.by_user.items()]),
            (AGENTS, agents),
        )
        values: list[Any] = []
        for kind, listed in rows:
            values += (org, *_columns(listed, len(kind.columns)))
        runs = [run_row(org, key[0], run)[1:] for key, run in rollups.runs.items()]
        self.connection.execute(_ADD_ALL, (*values, org, *_columns(runs, len(_RUN_COLUMNS))))

    def _merge_durations(self, spread: Sequence[list[list[Any]]]) -> None:
        asked: list[Any] = []
        for kind, rows in zip(_SPREAD, spread, strict=True):
            width = len(kind.dimensions)
            asked += (*_columns([row[:width] for row in rows], width), self.org)
        for number, place, durations in self.connection.execute(_DURATIONS, asked):
            row = spread[number][place - 1]
            at = len(_SPREAD[number].dimensions) + len(MEASURES)
            row[at] = histogram.merge(durations, row[at])

    def _among(self, statement: str, values: Collection[object]) -> Iterable[Any]:
        return self.connection.execute(statement, (self.org, list(values))) if values else ()

    def _write(self, statement: str, rows: Rows) -> None:
        if rows:
            self.connection.execute(statement, (self.org, *_columns(rows)))


def _columns(rows: Rows, width: int = 0) -> list[list[Any]]:
    """Return rows as lists of their columns: `width` empty ones where there is no row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
