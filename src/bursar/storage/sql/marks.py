"""Marks on what other processes keep in memory: this is not what you have read any more.

    a change  →  mark, in its own transaction  →  change_mark  →  `engine.Changes` of each process

An engine that one process has to itself hears nothing and asks nothing. Not here: what is kept
for so short a time that it needs no mark (`web.principal`, `ingestion.admission`).
"""

from collections.abc import Callable
from enum import StrEnum

from bursar.core.ids import Org
from bursar.storage.sql.ports import Connection

Forget = Callable[[Org], None]


class Kept(StrEnum):
    """What processes keep until they hear of a change."""

    PRICES = "prices"
    """An organisation's price book."""

    CLOCK = "clock"
    """The doubt about a step of the clock, which the operator's word ends in every process."""


def mark(connection: Connection, org: Org, kept: Kept) -> None:
    """Tell every process, when this transaction is committed, to read `kept` of `org` anew."""
    number = connection.dialect.transaction_number
    connection.execute(
        f"""INSERT INTO change_mark (org, kind, xact) VALUES (?, ?, {number})
            ON CONFLICT (org, kind) DO UPDATE SET xact = excluded.xact""",
        (org, kept.value),
    )


class Quiet:
    """`engine.Changes` of a database that no other process writes."""

    def on(self, _kept: Kept, _forget: Forget) -> None:
        """See the protocol."""

    async def catch_up(self, *, is_asked: bool = False) -> None:
        """See the protocol."""
