"""What PostgreSQL reads for an answer: of all months of events only those that the span touches."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from written_ledger import WrittenLedger, call

from bursar.analytics.events import EventQuery
from bursar.analytics.query import Dim, Query, Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_MINUTE
from bursar.enforcement.history import PastRange
from bursar.storage.postgres.spelling import spelled
from bursar.storage.sql.agent_history import history
from bursar.storage.sql.budget_history import SqlHistory
from bursar.storage.sql.event_pages import SqlEvents
from bursar.storage.sql.ports import Cell, Connection, Parameters, Rows
from bursar.storage.sql.reports import SqlReports
from bursar.storage.sql.span_sums import SpanSums, Told

ENGINES = ("postgres",)
"""SQLite has one table of events."""

MIDNIGHT = 20_550 * MICROS_PER_DAY  # 2026-04-07
MONTHS = 6
MONTH = 30 * MICROS_PER_DAY
SPAN = Span(MIDNIGHT - 3 * MONTH + MICROS_PER_MINUTE, MIDNIGHT - 3 * MONTH + 2 * MICROS_PER_DAY)
OWN_MONTH = "event_2026_01"


class Explaining:
    """A connection that also asks how each statement is carried out, and notes the months that it reads."""

    def __init__(self, own: Connection, mode: str) -> None:
        self.dialect = own.dialect
        self.months: set[str] = set()
        self._own = own
        own.execute(f"SET LOCAL plan_cache_mode = {mode}")

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        values = ", ".join(map(_literal, spelled(sql).ordered(parameters)))
        self._own.execute(f"PREPARE asked AS {spelled(sql).text}")
        asked = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked{f'({values})' if values else ''}"
        [explained] = json.loads(self._own.execute(asked).fetchone()[0])
        self._own.execute("DEALLOCATE asked")
        self.months.update(name for name in _read(explained["Plan"]) if name.startswith("event_2"))
        return self._own.execute(sql, parameters)

    def listed(self, sql: str, columns: Iterable[str], parameters: Parameters) -> list[tuple[Cell, ...]]:
        found = self.execute(f"SELECT {', '.join(columns)} FROM ({sql}) AS r", parameters)
        return [tuple(row) for row in found]


def _literal(value: object) -> str:
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    text = str(value).replace("'", "''")
    return "NULL" if value is None else text if isinstance(value, int) else f"'{text}'"


def _read(node: dict[str, Any]) -> Iterable[str]:
    """Give the tables that a plan's nodes have read; those that were planned and left out are not."""
    if node["Actual Loops"] and "Relation Name" in node:
        yield node["Relation Name"]
    for below in node.get("Plans", ()):
        yield from _read(below)


class ExplainingReaders:
    """Readers whose statements are explained."""

    def __init__(self, ledger: WrittenLedger, mode: str) -> None:
        self._own = ledger.readers
        self._mode = mode
        self.months: set[str] = set()

    async def run(self, org: Org, work: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - the work's
        def explained(connection: Connection) -> Any:  # noqa: ANN401
            explaining = Explaining(connection, self._mode)
            result = work(explaining)  # type: ignore[arg-type] # all that a reader uses
            self.months |= explaining.months
            return result

        return await self._own.run(org, explained)

    run_short = run


@pytest.fixture(scope="module")
def org(ledger: WrittenLedger) -> Org:
    """An organisation with calls of an agent on some days of each of the last months."""
    org = ledger.new_org()
    for month in range(MONTHS):
        days = [MIDNIGHT - month * MONTH + day * MICROS_PER_DAY for day in range(3)]
        ledger.record(org, [call(at + step) for at in days for step in range(1, 9)])
    return org


ASKED: dict[str, Callable[[ExplainingReaders, Org], Any]] = {
    "a total": lambda readers, org: SqlReports(readers).report(Query(org, SPAN)),
    "sums by run": lambda readers, org: SqlReports(readers).report(Query(org, SPAN, (Dim.RUN,))),
    "events": lambda readers, org: SqlEvents(readers).page(EventQuery(org, SPAN)),
    "an agent's events": lambda readers, org: SqlEvents(readers).page(
        EventQuery(org, SPAN, {Dim.AGENT: "scout"})
    ),
    "an agent's days": lambda readers, org: readers.run(org, lambda one: history(one, org, "scout", [SPAN])),
    "kept sums": lambda readers, org: readers.run(
        org, lambda one: SpanSums(Told.BY_AGENT).used(one, org, [SPAN], MIDNIGHT)
    ),
    "past calls": lambda readers, org: SqlHistory(readers).page(org, PastRange(*SPAN), None, 100),
}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_a_span_reads_no_month_but_its_own(
    ledger: WrittenLedger, org: Org, mode: str, asked: Callable[[ExplainingReaders, Org], Any]
) -> None:
    readers = ExplainingReaders(ledger, mode)
    assert ledger.wait(asked(readers, org))
    assert readers.months == {OWN_MONTH}
