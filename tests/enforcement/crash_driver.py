"""Asks four questions in one commit, in a child that is killed at its n-th SQL statement.

Prints one JSON line a kill: the statement, and what the file holds: all of it or nothing. Then the
caller asks again, as one does that has heard nothing. A process of its own, because it forks.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "budgets"))

from memory_engine import CALL, START, cost, numbered

from bursar.budgets.budget import Budget, Mode
from bursar.budgets.clock import Now
from bursar.budgets.hold import Granted, Request
from bursar.core.ids import Org
from bursar.core.periods import Period
from bursar.enforcement import changes
from bursar.enforcement.desk import Desk
from bursar.enforcement.indexes import Indexes
from bursar.enforcement.questions import Authorise, Question, Settle, Void
from bursar.ledger.verification import Findings
from bursar.storage.sql import verify_budgets
from bursar.storage.sql.verify_scope import Scope
from bursar.storage.sqlite.snapshots import open_snapshot
from bursar.storage.sqlite.store import SqliteStore
from support.crash import is_killed, kill_at

ORG = Org(1)
BUDGETS = [
    Budget(id=numbered(901), limit=100, created_at=1),
    Budget(id=numbered(902), limit=100, created_at=1, period=Period.MONTHLY),
    Budget(id=numbered(903), limit=10, created_at=1, mode=Mode.SOFT),
]
TABLES = ("hold", "budget_window", "posting", "incident", "decision_clock")


def authorise(number: int, nusd: int) -> Authorise:
    key = numbered(1_000 + number)
    return Authorise(Request(hold_id=numbered(number), key=key, digest=b"d", call=CALL, amounts=cost(nusd)))


BEFORE = [authorise(1, 20), authorise(2, 20)]
BATCH: list[Question[object]] = [
    authorise(3, 30),
    Settle(numbered(1), cost(25), START),
    authorise(4, 20),
    Void(numbered(2)),
]


def opened(directory: Path) -> tuple[SqliteStore, Desk]:
    store = SqliteStore(directory, clock=lambda: START, canonicalise=lambda p, m: (p, m))
    store.open()
    return store, Desk(store, Indexes(), lambda: Now(START))


def ask(desk: Desk, questions: Sequence[Question[object]]) -> list[object]:
    async def together() -> list[object]:
        return list(await asyncio.gather(*(desk.ask(ORG, question) for question in questions)))

    return asyncio.run(together())


def prepare(directory: Path) -> None:
    store, desk = opened(directory)

    async def create() -> None:
        for budget in BUDGETS:
            await desk.change(ORG, lambda change, budget=budget: changes.create(change, budget))

    asyncio.run(create())
    ask(desk, BEFORE)
    store.close()


def state(store: SqliteStore) -> list[list[object]]:
    reader = store.reader()
    found = [[tuple(row) for row in reader.execute(f"SELECT * FROM {table}")] for table in TABLES]
    reader.close()
    return found


def violations(store: SqliteStore) -> list[str]:
    """Prove the budgets of the file; a kill must leave nothing that the auditor finds."""
    findings = Findings()
    with closing(open_snapshot(store.path)) as connection:
        verify_budgets.check(Scope(connection, ORG, findings))
    return [str(violation) for violation in findings.report().violations]


def ask_until(directory: Path, statement: int) -> None:
    """Run in the child: never comes back when the batch has that many statements."""
    store, desk = opened(directory)
    kill_at(store._writer, statement)
    ask(desk, BATCH)


def main(folder: Path) -> None:
    prepare(folder / "before")
    shutil.copytree(folder / "before", folder / "whole")
    store, desk = opened(folder / "whole")
    absent = state(store)
    ask(desk, BATCH)
    whole = state(store)
    store.close()
    statement, killed = 0, True
    while killed:
        statement += 1
        directory = folder / str(statement)
        shutil.copytree(folder / "before", directory)
        killed = is_killed(partial(ask_until, directory, statement))
        store, desk = opened(directory)
        found, faults = state(store), violations(store)
        outcome = "absent" if found == absent else "whole" if found == whole else "half"
        answers = ask(desk, BATCH)
        ids = [answer.hold.id for answer in answers if isinstance(answer, Granted)]
        faults += violations(store)
        is_repeated = ids == [numbered(3), numbered(4)] and state(store) == whole
        store.close()
        shutil.rmtree(directory)
        line = {"statement": statement, "state": outcome, "is_repeated": is_repeated, "faults": faults}
        print(json.dumps(line), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
