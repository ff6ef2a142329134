"""The ledger in PostgreSQL: keys are taken, rows and sums written, a batch at a time.

A batch's values go over as one array a column and come apart there (`unnest`): one statement a
table, whatever the batch's size. Histograms are merged here, of rows that nobody else can
change meanwhile: the transaction holds the organisation's lock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bursar.core.ids import Org
from bursar.core.usage import UsageEvent
from bursar.ingestion.ports import Claim, Standing
from bursar.ledger import histogram
from bursar.ledger.posting import Posting, RollUps
from bursar.ledger.rows import ENTRY_COLUMNS, MEASURES, PLAIN_COLUMNS, EntryRow
from bursar.storage.postgres.partitions import Months
from bursar.storage.sql.columns import ENTRY_COLUMN_LIST, MEASURE_LIST, measure_adds, span_adds
from bursar.storage.sql.ledger import SqlLedger, beyond_caps, run_row, run_texts, spread_rows
from bursar.storage.sql.ports import Connection

_BYTES = frozenset({"key", "run", "session", "hold", "durations", "parent"})
_TEXT = frozenset({"media", "attributes", "external_id", "text"})

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


class _Spread(NamedTuple):
    """A roll-up with histograms: how its rows are found and written."""

    width: int
    find: str
    add: str


def _adding(table: str, dimensions: str, more: str = "", adds: str = "") -> str:
    names = [name.strip() for name in f"{dimensions}, {MEASURE_LIST}{more}".split(",")]
    keys = ", ".join(_quoted(name.strip()) for name in dimensions.split(","))
    return _insert(table, names, f"ON CONFLICT (org, {keys}) DO UPDATE SET {measure_adds(table)}{adds}")


def _spread(table: str, dimensions: str) -> _Spread:
    names = [name.strip() for name in dimensions.split(",")]
    same = " AND ".join(f"r.{name} = one.{name}" for name in names)
    find = f"""SELECT one.place, r.durations
        FROM unnest({", ".join("?::bigint[]" for _ in names)})
            WITH ORDINALITY AS one ({dimensions}, place)
        JOIN {table} r ON r.org = ? AND {same}"""
    adds = f", durations = excluded.durations, {span_adds(table)}"
    return _Spread(len(names), find, _adding(table, dimensions, ", durations, first_at, last_at", adds))


_CLAIM = f"""INSERT INTO event_key (org, key, occurred_at, revision)
    SELECT ?, one.* FROM {_arrays(("key", "occurred_at", "revision"))}
    ON CONFLICT DO NOTHING RETURNING key"""
_EVENTS = _insert("event", ENTRY_COLUMNS)
_PLAIN_EVENTS = _insert("event", PLAIN_COLUMNS)
_UNPRICED = _insert("unpriced_event", ("model", "occurred_at", "key"), "ON CONFLICT DO NOTHING")
_PROMPTS = _insert("prompt", ("occurred_at", "key", "text"), "ON CONFLICT DO NOTHING")
_BY_AGENT = _spread("rollup_agent", "hour, agent, model, billing")
_BY_PROJECT = _spread("rollup_project", "hour, project, model")
_BY_FEATURE = _adding("rollup_feature", "hour, feature")
_BY_USER = _adding("rollup_user", "hour, user")
_AGENTS = _adding("agent_total", "agent", ", first_at, last_at", f", {span_adds('agent_total')}")
_RUNS = f"""{_insert("run", ("run", "external_id", "parent", "agent", *MEASURES, "first_at", "last_at"))}
    ON CONFLICT (org, run) DO UPDATE SET {measure_adds("run")}, {span_adds("run")},
        parent = coalesce(run.parent, excluded.parent)"""

_STANDING_EVENTS = f"""SELECT k.revision, NULL::bigint, {", ".join(f'e."{name}"' for name in ENTRY_COLUMNS)}
    FROM event_key k JOIN event e ON e.org = k.org AND e.occurred_at = k.occurred_at AND e.key = k.key
    WHERE k.org = ? AND k.key = ANY(?::bytea[])"""
_STANDING_ENTRIES = f"""SELECT DISTINCT ON (key) revision, seq, {ENTRY_COLUMN_LIST} FROM entry
    WHERE org = ? AND key = ANY(?::bytea[]) AND sign = 1 ORDER BY key, seq DESC"""
_AGENT_NAMES = "SELECT agent, name FROM agent WHERE org = ? AND agent = ANY(?::bigint[])"
_MODEL_NAMES = "SELECT model, provider, name FROM model WHERE org = ? AND model = ANY(?::bigint[])"
_RUN_TEXTS = "SELECT run, external_id, parent FROM run WHERE org = ? AND run = ANY(?::bytea[])"


class PostgresLedger(SqlLedger):
    """`ingestion.ports.LedgerWriter` within a transaction that holds the organisation's lock."""

    def __init__(self, connection: Connection, org: Org, months: Months) -> None:
        super().__init__(connection, org)
        self._months = months

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
        self._write(_PLAIN_EVENTS, [row[1:] for row in posting.plain_rows])
        self._write(_EVENTS, [row[1:] for row in posting.rows])
        self._write(_UNPRICED, posting.unpriced)
        self._write(_PROMPTS, [(event.occurred_at, event.key, event.prompt) for event in prompts])
        self._add(posting.rollups)

    def _add(self, rollups: RollUps) -> None:
        """Add all deltas, one statement a table."""
        org = self.org
        self._add_spread(_BY_AGENT, [row[1:] for row in spread_rows(org, rollups.by_agent.items())])
        self._add_spread(_BY_PROJECT, [row[1:] for row in spread_rows(org, rollups.by_project.items())])
        self._write(_BY_FEATURE, [(*key, *sums.measures) for key, sums in rollups.by_feature.items()])
        self._write(_BY_USER, [(*key, *sums.measures) for key, sums in rollups.by_user.items()])
        self._write(
            _AGENTS, [(*key, *s.measures, s.first_at, s.last_at) for key, s in rollups.agents.items()]
        )
        self._write(_RUNS, [run_row(org, key[0], run)[1:] for key, run in rollups.runs.items()])

    def _add_spread(self, kind: _Spread, rows: list[tuple[object, ...]]) -> None:
        """Add to rows that keep a histogram: what stands is read, merged, and written back."""
        if not rows:
            return
        dimensions = _columns([row[: kind.width] for row in rows])
        place = kind.width + len(MEASURES)
        for number, durations in self.connection.execute(kind.find, (*dimensions, self.org)):
            row = list(rows[number - 1])
            row[place] = histogram.merge(durations, row[place])
            rows[number - 1] = tuple(row)
        self._write(kind.add, rows)

    def _among(self, statement: str, values: Collection[object]) -> Iterable[Any]:
        return self.connection.execute(statement, (self.org, list(values))) if values else ()

    def _write(self, statement: str, rows: Rows) -> None:
        if rows:
            self.connection.execute(statement, (self.org, *_columns(rows)))


def _columns(rows: Rows) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
