"""Prove the sums: entries against every roll-up, agents' totals and runs.

    entries of a range  →  `Sums`, one pass by the engine  →  each roll-up, compared row by row

Sums are made by the engine from the tables' own columns, not by the code that wrote them; the
SQL of what is summed is here, what the engine sums with (`verify_ports.Sums`) is its own.
"""

from collections.abc import Iterable, Iterator

from bursar.core.ids import key_from_text, uuid_text_from_id
from bursar.ledger.rows import MEASURES
from bursar.storage.sql.columns import MEASURE_LIST, MEASURE_SUMS
from bursar.storage.sql.verify_ports import ROLLUPS, Rollup, Row, Snapshot, Sums, Unsummable
from bursar.storage.sql.verify_scope import HOUR_OF, Scope, compare, key_text

_SPAN = ("first_at", "last_at")
_COUNTED = """agent, model, project, feature, user, billing, run, occurred_at, is_error, cost_nusd,
    input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, media_tokens, web_searches, duration_ms"""
_TOKENS = """input_tokens + output_tokens + reasoning_tokens + cache_read_tokens
    + cache_write_5m_tokens + cache_write_1h_tokens + media_tokens"""
_PLAIN = MEASURES[MEASURES.index("input_tokens") :]
_SUMMED = {
    "requests": "sign",
    "errors": "sign * is_error",
    "unpriced_requests": "CASE WHEN cost_nusd IS NULL THEN sign ELSE 0 END",
    "unpriced_tokens": f"CASE WHEN cost_nusd IS NULL THEN sign * ({_TOKENS}) ELSE 0 END",
    "cost_nusd": "sign * coalesce(cost_nusd, 0)",
    **{name: f"sign * {name}" for name in _PLAIN},
}

RANGE = "WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3"
ENTRIES = (
    f"(SELECT 1 AS sign, {_COUNTED} FROM event {{0}} UNION ALL SELECT sign, {_COUNTED} FROM entry {{0}})"
)
"""Every entry that a condition lets in, with its sign; an event is its own first entry."""

ENTRY_SUMS = ", ".join(f"CAST(sum({_SUMMED[name]}) AS BIGINT) AS {name}" for name in MEASURES)
"""The measures of a group of `ENTRIES`."""

ENTRY_SPAN = "min(occurred_at) AS first_at, max(occurred_at) AS last_at"

_RUNS = f"SELECT run, {MEASURE_LIST}, first_at, last_at FROM run WHERE org = ?1 ORDER BY run"
_RUN_TEXTS = "SELECT run, external_id FROM run WHERE org = ?1 AND external_id IS NOT NULL"
_AGENT_SUMS = f"""SELECT agent, {MEASURE_SUMS}, min(first_at), max(last_at) FROM rollup_agent
    WHERE org = ?1 GROUP BY agent ORDER BY agent"""
_AGENTS = f"SELECT agent, {MEASURE_LIST}, first_at, last_at FROM agent_total WHERE org = ?1 ORDER BY agent"
_STORED = """SELECT {columns} FROM {table} WHERE org = ?1 AND hour >= ?2 AND hour < ?3
    ORDER BY {dimensions}"""

_NAMED = {
    "agent": "agent",
    "project": "project",
    "feature": "feature",
    "user": "user_label",
    "model": "model",
}
"""Kinds of names, and the table of each, whose number has the kind's name."""
_UNNAMED = """SELECT '{kind}' AS kind, value FROM ({numbers}) AS f WHERE NOT EXISTS (
    SELECT 1 FROM {table} n WHERE n.org = ?1 AND n.{kind} = f.value)"""
_HOUR_AFTER = f"""SELECT {HOUR_OF} + 3600000000 FROM (SELECT occurred_at FROM event
    WHERE org = ?1 AND occurred_at >= ?2 ORDER BY occurred_at LIMIT 1 OFFSET ?3) AS r"""

Numbers = dict[str, set[int]]
"""What a range refers to, by kind of name."""


def check_rollups(scope: Scope, sums: Sums, start: int, end: int) -> Numbers:
    """Compare each roll-up of the grouped range with its entries; return the numbers they refer to."""
    referenced: Numbers = {kind: set() for kind in _NAMED}
    for rollup in ROLLUPS:
        table, dimensions, has_spread = rollup
        names = [*dimensions, *MEASURES, *(("durations", *_SPAN) if has_spread else ())]
        expected = _noted(sums.rollup(rollup), rollup, referenced)
        sql = _STORED.format(columns=", ".join(names), table=table, dimensions=", ".join(dimensions))
        stored = scope.stream(sql, start, end)
        compare(scope, "rollups", table, expected, stored, names=names, width=len(dimensions))
    return referenced


def _noted(rows: Iterable[Row], rollup: Rollup, referenced: Numbers) -> Iterator[Row]:
    """Pass rows on and note the names that they refer to."""
    kinds = [(place, referenced[kind]) for place, kind in enumerate(rollup.dimensions) if kind in referenced]
    for row in rows:
        for place, numbers in kinds:
            numbers.add(row[place])
        yield row


def check_names(scope: Scope, referenced: Numbers) -> None:
    """Look up every name that a range refers to; 0 stands for none, except for models."""
    asked = {kind: referenced[kind] - (set() if kind == "model" else {0}) for kind in _NAMED}
    numbers_of = scope.connection.dialect.numbers
    parts = (
        _UNNAMED.format(kind=kind, table=table, numbers=numbers_of(f"?{place}"))
        for place, (kind, table) in enumerate(_NAMED.items(), start=2)
    )
    unnamed = f"{' UNION ALL '.join(parts)} ORDER BY 1, 2"
    for kind, number in scope.rows(unnamed, *(str(sorted(numbers)) for numbers in asked.values())):
        scope.differs("names", kind, str(number), expected="a row", found=None)
    scope.findings.checked("names", sum(map(len, asked.values())))


def check_runs(snapshot: Snapshot, scope: Scope) -> None:
    """Compare the runs with what was gathered, which must have been all of them."""
    names = ["run", *MEASURES, *_SPAN]
    try:
        with snapshot.summing():
            expected = snapshot.sums.runs(scope.org)
            compare(scope, "runs", "run", expected, scope.stream(_RUNS), names=names, width=1)
    except Unsummable as error:
        scope.differs("runs", "run", "sums", expected="sums within 64 bits", found=error)
    for run, text in scope.stream(_RUN_TEXTS):
        if key_from_text(text) != run:
            key = key_text(["run"], [run])
            scope.differs("runs", "run", key, expected=uuid_text_from_id(key_from_text(text)), found=text)


def check_totals(snapshot: Snapshot, scope: Scope) -> None:
    """Compare agents' totals with the hourly roll-up, which `check_rollups` holds to the entries."""
    names = ["agent", *MEASURES, *_SPAN]
    try:
        with snapshot.summing():
            expected, stored = scope.stream(_AGENT_SUMS), scope.stream(_AGENTS)
            compare(scope, "totals", "agent_total", expected, stored, names=names, width=1)
    except Unsummable as error:
        scope.differs("totals", "rollup_agent", "sums", expected="sums within 64 bits", found=error)


def ranges(scope: Scope, rows: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Tile the time from `first` to `last` by whole hours, about `rows` events each."""
    start = first
    while start < last:
        found = scope.rows(_HOUR_AFTER, start, rows).fetchone()
        end = last if found is None else min(found[0], last)
        yield start, end
        start = end
