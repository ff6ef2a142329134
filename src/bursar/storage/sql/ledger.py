"""The append-only side of the ledger, bound to one organisation, one row at a time.

Not here: how a batch takes its keys, which each engine does in its own way (`sqlite.ledger`,
`postgres.ledger`; the latter also writes rows and sums in bulk).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from bursar.core.ids import Org, key_from_text, uuid_text_from_id
from bursar.core.usage import UsageEvent
from bursar.ingestion.ports import Claim, Standing
from bursar.ledger import histogram
from bursar.ledger.posting import Correction, Posting, RollUps, RunSums, Sums
from bursar.ledger.rows import COUNTS_NOTHING, EntryRow
from bursar.storage.sql.columns import (
    ENTRY_COLUMN_LIST,
    ENTRY_PARAMETERS,
    MEASURE_LIST,
    MEASURE_PARAMETERS,
    PLAIN_COLUMN_LIST,
    PLAIN_PARAMETERS,
    measure_adds,
    span_adds,
)
from bursar.storage.sql.directory import OTHER
from bursar.storage.sql.ports import Connection

_INSERT_EVENT = f"INSERT INTO event (org, {ENTRY_COLUMN_LIST}) VALUES (?, {ENTRY_PARAMETERS})"
_INSERT_PLAIN_EVENT = f"INSERT INTO event (org, {PLAIN_COLUMN_LIST}) VALUES (?, {PLAIN_PARAMETERS})"
_INSERT_ENTRY = f"""INSERT INTO entry (org, seq, sign, revision, reason, corrects, {ENTRY_COLUMN_LIST})
    VALUES (?, ?, ?, ?, ?, ?, {ENTRY_PARAMETERS})"""
_STANDING_KEY = "SELECT occurred_at, revision FROM event_key WHERE org = ? AND key = ?"
# Named, as the planner would rather walk all entries of the organisation backwards by number.
_STANDING_ENTRY = f"""SELECT seq, {ENTRY_COLUMN_LIST} FROM entry INDEXED BY entry_by_key
    WHERE org = ? AND key = ? AND sign = 1 ORDER BY seq DESC LIMIT 1"""
_STANDING_EVENT = f"SELECT NULL, {ENTRY_COLUMN_LIST} FROM event WHERE org = ? AND occurred_at = ? AND key = ?"
_SUBJECT = """SELECT a.name, m.provider, m.name
    FROM model m LEFT JOIN agent a ON a.org = m.org AND a.agent = ?
    WHERE m.org = ? AND m.model = ?"""
_RUN_TEXT = "SELECT external_id, parent FROM run WHERE org = ? AND run = ?"
_SET_REVISION = "UPDATE event_key SET revision = ? WHERE org = ? AND key = ?"
_LAST_BATCH = "SELECT max(seq) FROM batch WHERE org = ?"
_LAST_ENTRY = "SELECT max(seq) FROM entry WHERE org = ?"
_INSERT_BATCH = "INSERT INTO batch (org, seq, committed_at, hours, events, entries) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_PROMPT = "INSERT INTO prompt (org, occurred_at, key, text) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INSERT_UNPRICED = (
    "INSERT INTO unpriced_event (org, model, occurred_at, key) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_DELETE_UNPRICED = "DELETE FROM unpriced_event WHERE org = ? AND model = ? AND occurred_at = ? AND key = ?"
_INSERT_QUARANTINE = """INSERT INTO quarantine (org, seq, key, received_at, reason, body)
    VALUES (?1, coalesce((SELECT max(seq) FROM quarantine WHERE org = ?1), 0) + 1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO NOTHING"""


_MERGED = "durations = merge_durations(durations, excluded.durations)"


def _upsert(table: str, dimensions: str, *, spread: bool) -> str:
    """Return the statement that adds one delta to a roll-up row, or makes the row."""
    names = dimensions.split(", ")
    extra, marks, adds = (
        (", durations, first_at, last_at", ", ?, ?, ?", f", {_MERGED}, {span_adds(table)}")
        if spread
        else ("", "", "")
    )
    return f"""INSERT INTO {table} (org, {dimensions}, {MEASURE_LIST}{extra})
        VALUES (?{", ?" * len(names)}, {MEASURE_PARAMETERS}{marks})
        ON CONFLICT (org, {dimensions}) DO UPDATE SET {measure_adds(table)}{adds}"""


_ADD_AGENT_HOUR = _upsert("rollup_agent", "hour, agent, model, billing", spread=True)
_ADD_PROJECT_HOUR = _upsert("rollup_project", "hour, project, model", spread=True)
_ADD_FEATURE_HOUR = _upsert("rollup_feature", "hour, feature", spread=False)
_ADD_USER_HOUR = _upsert("rollup_user", "hour, user", spread=False)
_ADD_AGENT = f"""INSERT INTO agent_total (org, agent, {MEASURE_LIST}, first_at, last_at)
    VALUES (?, ?, {MEASURE_PARAMETERS}, ?, ?)
    ON CONFLICT (org, agent) DO UPDATE SET {measure_adds("agent_total")}, {span_adds("agent_total")}"""
_ADD_RUN = f"""INSERT INTO run (org, run, external_id, parent, agent, {MEASURE_LIST}, first_at, last_at)
    VALUES (?, ?, ?, ?, ?, {MEASURE_PARAMETERS}, ?, ?)
    ON CONFLICT (org, run) DO UPDATE SET {measure_adds("run")}, {span_adds("run")},
        parent = coalesce(run.parent, excluded.parent)"""


class SqlLedger(ABC):
    """`ingestion.ports.LedgerWriter` in a transaction, but for `claim`, which engines do their ways."""

    def __init__(self, connection: Connection, org: Org) -> None:
        self.connection = connection
        self.org = org

    @abstractmethod
    async def claim(self, events: Sequence[UsageEvent]) -> Claim:
        """Take the keys that are new; say which were known."""

    async def standing(self, key: bytes) -> Standing | None:
        """Return the last posted effect of `key`: its newest entry, else its event row."""
        connection, org = self.connection, self.org
        known = connection.execute(_STANDING_KEY, (org, key)).fetchone()
        if known is None:
            return None
        found = (
            connection.execute(_STANDING_ENTRY, (org, key)).fetchone()
            or connection.execute(_STANDING_EVENT, (org, known[0], key)).fetchone()
        )
        row = EntryRow._make(found[1:])
        run_text = ("", "")
        if row.run is not None:
            run_text = run_texts(row.run, *connection.execute(_RUN_TEXT, (org, row.run)).fetchone())
        subject = connection.execute(_SUBJECT, (row.agent, org, row.model)).fetchone()
        names = beyond_caps(row, (subject[0] or "", subject[1], subject[2]))
        return Standing(row, known[1], found[0], *run_text, names)

    async def standings(self, keys: Collection[bytes]) -> Mapping[bytes, Standing]:
        """Return what stands for each of the keys that are known."""
        found = [(key, await self.standing(key)) for key in keys]
        return {key: standing for key, standing in found if standing is not None}

    async def next_batch(self) -> int:
        """Return the number after the organisation's last batch."""
        return (self.connection.execute(_LAST_BATCH, (self.org,)).fetchone()[0] or 0) + 1

    async def append(self, posting: Posting, prompts: Sequence[UsageEvent]) -> None:
        """Write the event rows, what they add to roll-ups, and prompts sent on purpose."""
        org = self.org
        self.connection.executemany(_INSERT_PLAIN_EVENT, posting.plain_rows)
        self.connection.executemany(_INSERT_EVENT, posting.rows)
        if posting.unpriced:
            unpriced = [(org, *where) for where in posting.unpriced]
            self.connection.executemany(_INSERT_UNPRICED, unpriced)
        if prompts:
            texts = [(org, event.occurred_at, event.key, event.prompt) for event in prompts]
            self.connection.executemany(_INSERT_PROMPT, texts)
        self._add(posting.rollups)

    async def append_corrections(
        self,
        corrections: Sequence[Correction],
        rollups: RollUps,
        *,
        batch: int,
        revisions: Sequence[int],
        reason: str,
    ) -> None:
        """Write each correction as two entries, set its key's revision, add the deltas."""
        org, many = self.org, self.connection.executemany
        seq = self.connection.execute(_LAST_ENTRY, (org,)).fetchone()[0] or 0
        entries: list[tuple[object, ...]] = []
        for correction, revision in zip(corrections, revisions, strict=True):
            head = (revision, reason, correction.corrects)
            entries.append((org, seq + 1, -1, *head, *correction.reversed_row._replace(batch=batch)))
            entries.append((org, seq + 2, 1, *head, *correction.posted_row))
            seq += 2
        olds, news = [one.reversed_row for one in corrections], [one.posted_row for one in corrections]
        unpriced = [row for row in news if row.counts == COUNTS_NOTHING]
        many(_INSERT_ENTRY, entries)
        many(
            _SET_REVISION,
            [(revision, org, row.key) for revision, row in zip(revisions, news, strict=True)],
        )
        many(_DELETE_UNPRICED, [(org, row.model, row.occurred_at, row.key) for row in olds])
        many(_INSERT_UNPRICED, [(org, row.model, row.occurred_at, row.key) for row in unpriced])
        self._add(rollups)

    async def close_batch(
        self, batch: int, *, at: int, hours: Sequence[int], events: int, entries: int
    ) -> None:
        """Write the batch's row."""
        text = msgspec.json.encode(hours).decode()
        self.connection.execute(_INSERT_BATCH, (self.org, batch, at, text, events, entries))

    async def quarantine(self, event: UsageEvent, *, at: int, reason: str) -> None:
        """Keep an event that could not be posted."""
        body = msgspec.json.encode(event).decode()
        self.connection.execute(_INSERT_QUARANTINE, (self.org, event.key, at, reason, body))

    def _add(self, rollups: RollUps) -> None:
        """Add all deltas, one prepared statement a table."""
        org, many = self.org, self.connection.executemany
        many(_ADD_AGENT_HOUR, spread_rows(org, rollups.by_agent.items()))
        many(_ADD_PROJECT_HOUR, spread_rows(org, rollups.by_project.items()))
        many(_ADD_FEATURE_HOUR, [(org, *key, *sums.measures) for key, sums in rollups.by_feature.items()])
        many(_ADD_USER_HOUR, [(org, *key, *sums.measures) for key, sums in rollups.by_user.items()])
        many(
            _ADD_AGENT,
            [(org, *key, *s.measures, s.first_at, s.last_at) for key, s in rollups.agents.items()],
        )
        if rollups.runs:
            many(_ADD_RUN, [run_row(org, key[0], run) for key, run in rollups.runs.items()])


def run_texts(run: bytes, text: str | None, parent: bytes | None) -> tuple[str, str]:
    """Return a run and its parent as they were sent."""
    return (text or uuid_text_from_id(run), uuid_text_from_id(parent) if parent else "")


def beyond_caps(row: EntryRow, names: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return agent, provider and model as sent: those that count as `(other)` kept their text aside."""
    if OTHER not in {row.agent, row.model} or row.attributes is None:
        return names
    kept = msgspec.json.decode(row.attributes, type=dict[str, object])
    agent, provider, model = names
    if row.agent == OTHER:
        agent = str(kept.get("agent", agent))
    if row.model == OTHER:
        provider, model = str(kept.get("provider", provider)), str(kept.get("model", model))
    return agent, provider, model


def spread_rows(org: int, items: Iterable[tuple[tuple[int, ...], Sums]]) -> list[tuple[object, ...]]:
    """Return parameter rows of a roll-up that also keeps durations, first and last."""
    return [
        (org, *key, *sums.measures, histogram.pack(sums.buckets), sums.first_at, sums.last_at)
        for key, sums in items
    ]


def run_row(org: int, run: bytes, delta: RunSums) -> tuple[object, ...]:
    """Return a run's parameter row. A canonical UUID needs no second copy as text."""
    text = None if uuid_text_from_id(run) == delta.run else delta.run
    parent = key_from_text(delta.parent_run) if delta.parent_run else None
    sums = delta.sums
    return (org, run, text, parent, delta.agent, *sums.measures, sums.first_at, sums.last_at)
