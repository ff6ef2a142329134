"""Past calls for simulations, oldest first: events as they stand, with the names that budgets compare.

`enforcement.history.History` on read-only connections, a page and a snapshot at a time. What was
never corrected is read from its event, the rest from the last entry of its corrections; both
come in the order of time and key and are merged. Not here: the calls of a total (`event_pages`).
"""

import heapq
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import islice

import msgspec

from bursar.analytics.query import Dim
from bursar.budgets.matching import Call
from bursar.budgets.settlement import Spend
from bursar.core.ids import Org
from bursar.enforcement.history import History, PastPlace, PastRange
from bursar.ingestion.amounts import amounts_of_row
from bursar.ledger.rows import ENTRY_COLUMNS, EntryRow
from bursar.storage.sql.dialect import Dialect
from bursar.storage.sql.names import label_columns
from bursar.storage.sql.ports import Connection, Readers, Rows

_ZONE = "SELECT zone FROM organisation WHERE org = ?"
_DIMS = (Dim.AGENT, Dim.PROJECT, Dim.USER, Dim.RUN)
_COLUMNS = ", ".join(f"r.{name}" for name in ENTRY_COLUMNS)
_PAGE = """SELECT {columns}, {names} FROM {table} AS r
    WHERE r.org = :org AND r.occurred_at >= :starts_at AND r.occurred_at < :ends_at
        AND (r.occurred_at, r.key) > (:after_at, :after_key) AND {stands}
    ORDER BY r.occurred_at, r.key LIMIT :most"""
_EVENT_STANDS = """NOT EXISTS (SELECT 1 FROM entry AS c INDEXED BY entry_by_key
            WHERE c.org = r.org AND c.key = r.key)"""
_ENTRY_STANDS = """r.sign = 1 AND NOT EXISTS (SELECT 1 FROM entry AS c INDEXED BY entry_by_key
            WHERE c.org = r.org AND c.key = r.key AND c.seq > r.seq)"""
_WIDTH = len(ENTRY_COLUMNS)
_Tags = dict[str, object]


class _Attributes(msgspec.Struct):
    """What budgets read of an event's attributes."""

    tags: msgspec.Raw = msgspec.Raw(b"")


_attributes = msgspec.json.Decoder(_Attributes).decode
_tags = msgspec.json.Decoder(_Tags).decode


@cache
def _names(dialect: Dialect) -> dict[str, str]:
    """Return name → SQL of what budgets compare of an event."""
    labels = {
        name: sql for dim in _DIMS for name, sql in label_columns(dialect, dim, f"r.{dim.value}").items()
    }
    return {
        **labels,
        "provider": "(SELECT provider FROM model WHERE org = :org AND model = r.model)",
        "model": "(SELECT name FROM model WHERE org = :org AND model = r.model)",
    }


@cache
def _statements(dialect: Dialect) -> tuple[str, ...]:
    """Return what reads a page of events that were never corrected, and one of the last entries of others."""
    columns = ", ".join(_names(dialect).values())
    return tuple(
        _PAGE.format(columns=_COLUMNS, names=columns, table=table, stands=stands)
        for table, stands in (("event", _EVENT_STANDS), ("entry", _ENTRY_STANDS))
    )


class SqlHistory(History):
    """`enforcement.history.History` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def zone(self, org: Org) -> str:
        """Return the organisation's zone."""
        return await self._readers.run_short(org, lambda own: str(own.execute(_ZONE, (org,)).fetchone()[0]))

    async def page(self, org: Org, within: PastRange, after: PastPlace | None, most: int) -> Sequence[Spend]:
        """Return the next calls; see the protocol."""
        return await self._readers.run(org, partial(_page, org=org, within=within, after=after, most=most))


def _page(
    connection: Connection, org: Org, within: PastRange, after: PastPlace | None, most: int
) -> list[Spend]:
    place = after or PastPlace(within.starts_at, b"")
    bounds = {
        "org": org,
        "starts_at": place.occurred_at,
        "ends_at": within.ends_at,
        "after_at": place.occurred_at,
        "after_key": place.key,
        "most": most,
    }
    dialect = connection.dialect
    labels = tuple(_names(dialect))
    both = [_spends(connection.execute(sql, bounds), labels) for sql in _statements(dialect)]
    merged = heapq.merge(*both, key=lambda spend: (spend.occurred_at, spend.key))
    return list(islice(merged, most))


def _spends(found: Rows, labels: Sequence[str]) -> Iterator[Spend]:
    for cells in found:
        row = EntryRow._make(cells[:_WIDTH])
        named = dict(zip(labels, cells[_WIDTH:], strict=True))
        names = {name: named[name] or "" for name in ("agent", "project", "user", "provider", "model", "run")}
        call = Call(**names, api_key=row.api_key, tags=_tags_of(row.attributes))
        yield Spend(row.key, call, amounts_of_row(row), row.occurred_at)


def _tags_of(attributes: str | None) -> tuple[tuple[str, str], ...]:
    """Return the tags of an event: the texts of its attribute `tags`, sorted by name."""
    if attributes is None or '"tags"' not in attributes:
        return ()
    try:
        said = _tags(_attributes(attributes).tags)
    except msgspec.MsgspecError:
        return ()
    return tuple(sorted((name, text) for name, text in said.items() if isinstance(text, str)))
