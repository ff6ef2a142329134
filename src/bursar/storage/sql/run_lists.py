"""Runs: an agent's, the last ones first, and one by its id, each with the cost of its tree.

An agent's runs are found by an index of (agent, run) and put in order here: an index by time would have
to be written again with each call. Trees are summed when asked for, of the page's runs alone.
"""

from contextlib import suppress
from functools import partial

from bursar.analytics.agents import Use
from bursar.analytics.runs import Run, RunPlace, RunReader
from bursar.core.errors import InvalidInput
from bursar.core.ids import Org, id_from_text, key_from_text, uuid_text_from_id
from bursar.core.time import MICROS_MAX
from bursar.storage.sql.ports import Connection, Readers

_AGENT = "SELECT agent FROM agent WHERE org = ? AND name = ?"
_USED = """requests, cost_nusd,
    input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens,
    output_tokens + reasoning_tokens, duration_ms, unpriced_requests"""
_COLUMNS = f"""last_at, run, external_id, parent,
    (SELECT external_id FROM run AS p WHERE p.org = r.org AND p.run = r.parent) AS parent_text,
    (SELECT name FROM agent AS a WHERE a.org = r.org AND a.agent = r.agent) AS agent_name,
    errors, first_at, {_USED}"""
_OF_AGENT = f"""SELECT {_COLUMNS} FROM run AS r INDEXED BY run_by_agent
    WHERE org = ? AND agent = ? AND (last_at, run) < (?, ?) ORDER BY last_at DESC, run DESC LIMIT ?"""
_ONE = f"SELECT {_COLUMNS} FROM run AS r WHERE org = ? AND run = ?"
# UNION, not UNION ALL: callers can name parents in a circle. The two halves of a cost are added up apart,
# as their sum may leave 64 bits.
_TREE = f"""WITH RECURSIVE tree (run) AS (
        SELECT run FROM run WHERE org = :org AND run = :run
        UNION
        SELECT below.run FROM tree JOIN run AS below ON below.org = :org AND below.parent = tree.run),
    used (events, cost, tokens_in, tokens_out, duration, unpriced) AS (
        SELECT {_USED} FROM tree JOIN run ON run.org = :org AND run.run = tree.run)
    SELECT count(*) - 1, sum(events), sum(cost >> 32), sum(cost & 4294967295), sum(tokens_in),
        sum(tokens_out), sum(duration), sum(unpriced) FROM used"""
_LAST = RunPlace(MICROS_MAX + 1, b"")


class SqlRuns(RunReader):
    """`analytics.runs.RunReader` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def runs(self, org: Org, agent: str, *, before: RunPlace | None, most: int) -> list[Run]:
        """Return an agent's runs, the last active first."""

        def work(connection: Connection) -> list[Run]:
            known = connection.execute(_AGENT, (org, agent)).fetchone()
            if known is None:
                return []
            place = before or _LAST
            found = connection.execute(_OF_AGENT, (org, known[0], *place, most)).fetchall()
            return [_run(connection, org, tuple(row)) for row in found]

        return await self._readers.run(org, work)

    async def run(self, org: Org, run_id: str) -> Run | None:
        """Return one run by the caller's id, or by ours."""
        return await self._readers.run(org, partial(_by_id, org=org, run_id=run_id))


def _by_id(connection: Connection, org: Org, run_id: str) -> Run | None:
    keys = [key_from_text(run_id)]
    with suppress(InvalidInput):
        keys.append(id_from_text(run_id))
    for key in keys:
        row = connection.execute(_ONE, (org, key)).fetchone()
        if row is not None:
            return _run(connection, org, tuple(row))
    return None


def _run(connection: Connection, org: Org, row: tuple[object, ...]) -> Run:
    """Return a run by the order of `_COLUMNS`, with the sum of its tree."""
    last_at, run, text, parent, parent_text, agent, errors, first_at, *used = row
    if not isinstance(run, bytes):  # pragma: no cover - a STRICT column
        raise TypeError(run)
    below, events, high, low, *rest = connection.execute(_TREE, {"org": org, "run": run}).fetchone()
    return Run(
        place=RunPlace(_number(last_at), run),
        run_id=str(text) if text is not None else uuid_text_from_id(run),
        parent_id=_parent(parent, parent_text),
        agent=None if agent is None else str(agent),
        used=Use(*map(_number, used)),
        errors=_number(errors),
        first_at=_number(first_at),
        tree=Use(events, (high << 32) + low, *rest),
        runs_below=below,
    )


def _parent(parent: object, text: object) -> str | None:
    """Return a parent's id as its calls give it; that of one without calls of its own as we keep it."""
    if not isinstance(parent, bytes):
        return None
    return str(text) if text is not None else uuid_text_from_id(parent)


def _number(cell: object) -> int:
    return cell if isinstance(cell, int) else 0
