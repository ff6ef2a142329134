"""What one agent did on each of some days, by model: a seek an hour, however many others called in it.

Whole hours come from the roll-up, and those that a day's boundary cuts (zones with half hours) from the
entries. Not here: sums of all agents (`span_sums`).
"""

import json
from collections.abc import Sequence

from bursar.analytics.agents import AgentDay, Use
from bursar.analytics.query import Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_HOUR
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.names import PROVIDER
from bursar.storage.sql.ports import Connection
from bursar.storage.sql.span_sums import CUT_SUMS, FOUND, WHOLE_SUMS, use_from_cells, whole_and_cut

_AGENT = "SELECT agent FROM agent WHERE org = ? AND name = ?"
_MODEL = f"SELECT name, {PROVIDER} FROM model WHERE org = ? AND model = ?"
# Materialised, or SQLite would read the JSON anew for every row that it joins.
_SUMS = """WITH part ({columns}) AS MATERIALIZED ({parts})
    SELECT part.piece AS piece, r.model AS who, {sums} FROM {rows} GROUP BY 1, 2 ORDER BY 1, 2"""
_IN_HOUR = "r.org = :org AND r.hour = part.hour AND r.agent = :agent"
_IN_PART = """r.org = :org AND r.occurred_at >= part.starts_at AND r.occurred_at < part.ends_at
        AND r.agent = :agent"""


def history(connection: Connection, org: Org, name: str, days: Sequence[Span]) -> list[AgentDay]:
    """Return what an agent used on each day by model, in order of days; nothing for unknown names."""
    known = connection.execute(_AGENT, (org, name)).fetchone()
    if known is None:
        return []
    hours: list[tuple[int, ...]] = []
    cut: list[tuple[int, ...]] = []
    for place, day in enumerate(days):
        for part in whole_and_cut(day):
            if part.starts_at % MICROS_PER_HOUR or part.ends_at % MICROS_PER_HOUR:
                cut.append((place, *part))
            else:
                hours += [(place, hour) for hour in range(part.starts_at, part.ends_at, MICROS_PER_HOUR)]
    dialect = connection.dialect
    statements = [(_statement(dialect, "rollup_agent", ("piece", "hour"), _IN_HOUR, WHOLE_SUMS), hours)]
    if cut:
        columns = ("piece", "starts_at", "ends_at")
        statements += [
            (_statement(dialect, table, columns, _IN_PART, sums), cut) for table, sums in CUT_SUMS.items()
        ]
    labels: dict[int, tuple[str, str | None]] = {}
    found: list[AgentDay] = []
    for sql, parts in statements:
        asked = {"org": org, "agent": known[0], "parts": json.dumps(parts)}
        for day_place, number, *cells in connection.listed(sql, ("piece", *FOUND), asked):
            model = int(number or 0)
            if model not in labels:
                name, provider = connection.execute(_MODEL, (org, model)).fetchone()
                labels[model] = (name, provider or None)
            found.append(AgentDay(int(day_place or 0), *labels[model], Use._make(use_from_cells(cells))))
    return found


def _statement(dialect: Dialect, table: str, columns: tuple[str, ...], condition: str, sums: str) -> str:
    """Return what sums an agent's rows of a table in each part, by piece and model."""
    return _SUMS.format(
        columns=", ".join(columns),
        parts=dialect.tuples(":parts", *columns),
        sums=sums,
        rows=dialect.sought("part", table, condition),
    )
