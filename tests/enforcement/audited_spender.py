"""A spender whose budgets are proved as it goes, from outside of the server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bursar.core.ids import new_id
from bursar.core.time import text_from_micros
from bursar.ledger.verification import Findings, VerifyReport
from bursar.storage.sql.verify_ports import Snapshot
from bursar.storage.sql.verify_recent import RecentBudgets
from bursar.storage.sql.verify_rounds import BudgetRound
from bursar.storage.sql.verify_scope import Scope
from support.damage import inflict
from support.desk import event, open_desk
from support.engines import Database
from support.spender import Spender


class Audited(Spender):
    """A spender with what was remembered at the last look at its budgets."""

    recent: RecentBudgets

    def look(self, work: Callable[[Scope], object] | None = None) -> VerifyReport:
        """Prove what was touched since the last look; `work` takes its place."""
        findings = Findings()

        def prove(snapshot: Snapshot) -> None:
            (work or self.recent.check)(Scope(snapshot.connection, self.desk.org, findings))

        self.desk.treasury.engine.snapshots().read(prove, findings)
        return findings.report()

    def spoil(self, sql: str) -> None:
        assert inflict(self.desk.database, sql) > 0

    def spend(self, count: int = 1) -> None:
        for _ in range(count):
            self.settle(self.hold(1), 1)

    def ingest(self, at: int) -> None:
        answer = self.desk.ingest(event(timestamp=text_from_micros(at), idempotency_key=new_id().hex()))
        assert answer.status_code == 202


@contextmanager
def open_audited(database: Database) -> Iterator[Audited]:
    """Open a desk with a budget of a dollar a day, and one of a thousand a month."""
    with open_desk(database) as desk:
        spender = Audited(desk)
        spender.recent = RecentBudgets()
        spender.create(name="big", limit="1000.00", period="monthly")
        yield spender


def proved(scope: Scope, budget_round: BudgetRound) -> None:
    while not budget_round.step(scope):
        pass
    for violation in budget_round.findings.report().violations:
        scope.findings.add(violation)
