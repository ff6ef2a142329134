"""The engine in memory and the desk on a database, side by side: asked the same, they must say the same.

Each operation runs in memory first and then through `Desk` on either engine, by the same clock; answers
and errors must be equal, and `check_stored` compares every row. So whatever is proved of the
decisions in memory holds for what lies on the disk.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from memory_engine import CALL, Engine

from bursar.budgets import lease
from bursar.budgets.alert import Alert, raised
from bursar.budgets.amounts import Amounts
from bursar.budgets.book import Notice, Occasion
from bursar.budgets.budget import Budget
from bursar.budgets.gate import Gate, Gates
from bursar.budgets.hold import Granted, Hold, Request
from bursar.budgets.incident import Decision, Incident
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Outcome, Settled, Spend
from bursar.core.errors import AppError
from bursar.core.ids import Org
from bursar.enforcement import changes, questions
from bursar.enforcement.changes import Change
from bursar.enforcement.desk import Desk
from bursar.enforcement.due import Due
from bursar.enforcement.indexes import Indexes
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.budgets import HOLDS, WINDOWS
from bursar.storage.sql.engine import Engine as OpenEngine
from bursar.storage.sql.ports import Connection, Store
from bursar.storage.sqlite.store import DATABASE_NAME
from support.engines import Database, database_of

Result = TypeVar("Result")


ACTIVE = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND deleted_at IS NULL"
GATES = "SELECT kind, name, epoch, stops FROM gate WHERE org = ?"
INCIDENTS = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE org = ?"
ALERTS = f"SELECT {rows.ALERT_COLUMNS} FROM alert WHERE org = ?"


def said(alert: Alert | None) -> Alert:
    """An alert without its own id and time."""
    assert alert is not None
    return msgspec.structs.replace(alert, id=b"", at=0)


def unnamed(incident: Incident) -> Incident:
    """An incident without its own id."""
    return msgspec.structs.replace(incident, id=b"")


class Files:
    """One database and one loop for all examples, each of which has an organisation of its own."""

    def __init__(self, place: Database | Path) -> None:
        self.database = database_of(place)
        self.loop = asyncio.new_event_loop()
        self.org = Org(0)
        self.engine = self._opened()

    @property
    def store(self) -> Store:
        return self.engine.store

    @property
    def path(self) -> Path:
        """SQLite's file."""
        return self.database.folder / DATABASE_NAME

    def _opened(self) -> OpenEngine:
        return self.database.engine(clock=lambda: 0, canonicalise=lambda p, m: (p, m))

    def read(self, org: Org, work: Callable[[Connection], Result]) -> Result:
        return self.loop.run_until_complete(self.engine.readers.run_short(org, work))

    def reopen(self) -> None:
        self.loop.run_until_complete(self.engine.close())
        self.engine = self._opened()

    def close(self) -> None:
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()
        self.database.release()


def make_organisation(database: Database) -> None:
    """Give the first organisation, which budgets alone do not need, its row."""
    database.change(
        """INSERT INTO organisation (org, id, name, zone, currency, cost_basis, created_at)
        VALUES (1, ?, 'acme', 'UTC', 'USD', 'computed', 5)""",
        b"\x01",
    )


class Draw(questions.Report, frozen=True):
    """One call of a lease's journal, asked as a question: with the same rows loaded as for a report."""

    sent: Spend

    @property
    def counts_leases(self) -> bool:
        return False

    def decide(self, scene: questions.Scene) -> Outcome:
        hold = self.named(scene.book)
        matched = scene.matching(hold.call)
        return lease.spend_from_lease(scene.book, hold, self.sent, matched, scene.now)


class StoredEngine(Engine):
    def __init__(self, files: Files) -> None:
        self.files = files
        files.org = self.org = Org(files.org + 1)
        self.told: list[Notice] = []
        super().__init__()
        self.start()

    def start(self) -> None:
        self.desk = Desk(self.files.store, Indexes(), self.now, self.hear)

    def hear(self, org: Org, notices: Sequence[Notice]) -> None:
        assert org == self.org
        self.told += notices

    # --- both sides

    def run(self, work: Awaitable[Result]) -> Result:
        async def awaited() -> Result:
            return await work

        return self.files.loop.run_until_complete(awaited())

    def both(self, memory: Callable[[], Result], stored: Callable[[], Awaitable[object]]) -> Result:
        """Do the same in memory and in the database; they must answer, or refuse, alike."""
        self.flush_gates()
        try:
            wanted = memory()
        except AppError as error:
            with pytest.raises(type(error)):
                self.run(stored())
            raise
        answer = self.run(stored())
        assert answer == wanted, (answer, wanted)
        return wanted

    def asked(self, memory: Callable[[], Result], question: questions.Question[object]) -> Result:
        return self.both(memory, lambda: self.desk.ask(self.org, question))

    def changed(self, memory: Callable[[], Result], work: Callable[[Change], Awaitable[object]]) -> Result:
        return self.both(memory, lambda: self.desk.change(self.org, work))

    def flush_gates(self) -> None:
        """Gates are changed on the book itself in these tests: write what has changed."""
        for gate in list(self.book.gates.changed.values()):
            self.run(self.desk.change(self.org, partial(self._put_gate, gate)))
        super().flush_gates()

    @staticmethod
    async def _put_gate(gate: Gate, change: Change) -> None:
        def put(own: Gates) -> Gate:
            own.put(gate)
            return gate

        await changes.change_gate(change, gate.key, put)

    # --- the operations

    def create(self, budget: Budget) -> None:
        self.changed(lambda: Engine.create(self, budget) or budget, lambda c: changes.create(c, budget))

    def delete(self, budget: Budget) -> None:
        self.changed(lambda: Engine.delete(self, budget), lambda c: changes.delete(c, budget.id))

    def change_limit(self, budget_id: bytes, limit: int) -> None:
        def memory() -> Budget:
            Engine.change_limit(self, budget_id, limit)
            return self.budgets[budget_id]

        self.changed(memory, lambda c: changes.change_limit(c, budget_id, limit))

    def move_zone(self, budget_id: bytes, zone: str) -> None:
        def memory() -> Budget:
            Engine.move_zone(self, budget_id, zone)
            return self.budgets[budget_id]

        self.changed(memory, lambda c: changes.move_zone(c, budget_id, zone))

    def ask(self, request: Request) -> Granted | Refused | Stopped:
        return self.asked(lambda: Engine.ask(self, request), questions.Authorise(request))

    def settle(self, hold: Hold, amounts: Amounts, *, key: bytes | None = None) -> Settled:
        question = questions.Settle(hold.id, amounts, self.wall, key)
        return self.asked(lambda: Engine.settle(self, hold, amounts, key=key), question)

    def void(self, hold: Hold, *, by_operator: bool = False) -> None:
        def memory() -> Hold:
            Engine.void(self, hold, by_operator=by_operator)
            return hold

        self.asked(memory, questions.Void(hold.id, by_operator=by_operator))

    def extend(self, hold: Hold, deadline: int) -> None:
        def memory() -> Hold:
            Engine.extend(self, hold, deadline)
            return hold

        self.asked(memory, questions.Extend(hold.id, deadline))

    def post(self, amounts: Amounts, call: Call = CALL, *, at: int | None = None) -> Spend:
        self.flush_gates()
        spend = super().post(amounts, call, at=at)
        self.run(self.desk.ask(self.org, questions.Post(spend)))
        return spend

    def correct(self, source: bytes, old: Amounts, new: Amounts) -> None:
        question = questions.Correct(source, old=old, new=new)
        self.asked(lambda: Engine.correct(self, source, old, new), question)

    def run_jobs(self) -> None:
        due = Due(self.files.store, self.desk, self.now)
        self.both(lambda: Engine.run_jobs(self), lambda: due.run(self.org))

    def resolve(self, place: int, decision: Decision) -> Incident:
        wanted = self.incidents[place]
        own = next(one.id for one in self.stored_incidents() if unnamed(one) == unnamed(wanted))

        async def decide(change: Change) -> Incident:
            decided = await changes.resolve(change, own, decision)
            return msgspec.structs.replace(decided, id=wanted.id)

        return self.changed(lambda: Engine.resolve(self, place, decision), decide)

    def stored_incidents(self) -> list[Incident]:
        return [rows.incident_of(row) for row in self.rows(INCIDENTS)]

    def lease_of(self, request: lease.LeaseRequest) -> Granted | Refused | Stopped:
        return self.asked(lambda: Engine.lease_of(self, request), questions.Acquire(request))

    def draw(self, hold: Hold, spend: Spend) -> Outcome | None:
        if spend.key in self.drawn:
            return None
        return self.asked(lambda: Engine.draw(self, hold, spend), Draw(hold.id, spend))

    def report(self, hold: Hold, sent: lease.Report) -> lease.Reported:
        return self.asked(lambda: Engine.report(self, hold, sent), questions.Report(hold.id, sent))

    def restart(self) -> None:
        super().restart()
        self.files.reopen()
        assert self.files.engine.last_decided_at() >= max(
            (h.created_at for h in self.book.holds.values()), default=0
        )
        self.start()

    # --- looking

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Return the rows of a query bound to the organisation."""
        return self.files.database.rows(sql, self.org)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Read of the organisation as the product does."""
        return self.files.read(self.org, work)

    def check_stored(self) -> None:
        super().check_stored()
        self.flush_gates()
        windows = [rows.window_of(row) for row in self.rows(WINDOWS)]
        holds = [rows.hold_of(row) for row in self.rows(HOLDS)]
        gates = [
            rows.gate_of(row) for row in self.rows("SELECT kind, name, epoch, stops FROM gate WHERE org = ?")
        ]
        assert {gate.key: gate for gate in gates} == self.stored_gates
        assert {budget.id: budget for budget in map(rows.budget_of, self.rows(ACTIVE))} == self.budgets
        postings = Counter(
            (source, effect, rows.parts_of(parts))
            for source, effect, parts in self.rows("SELECT source, effect, parts FROM posting WHERE org = ?")
        )
        assert {window.key: window for window in windows} == self.book.windows
        assert {hold.id: hold for hold in holds} == self.book.holds
        assert postings == Counter((p.source, p.effect.value, p.parts) for p in self.postings)
        assert Counter(self.told) == Counter(self.notices)
        stored = Counter(map(unnamed, self.stored_incidents()))
        decided = Counter(map(unnamed, self.incidents))
        assert stored == decided, (stored - decided, decided - stored)
        assert Counter(map(said, map(rows.alert_of, self.rows(ALERTS)))) == Counter(
            map(said, (raised(b"", n, 0) for n in self.notices if n.occasion is not Occasion.WINDOW_CLOSED))
        )
