"""Whatever is asked of budgets, the auditor finds nothing: after each few steps, and at the end whole.

The state machine of `tests/budgets` on a database. What the ledger and the audit log would hold beside
budgets is written here: the events of posts, and that zones were moved.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from stored_engine import Files, StoredEngine
from test_machine import Machine

from bursar.ledger.verification import Findings
from bursar.storage.sql import verify_budgets
from bursar.storage.sql.verify_recent import RecentBudgets
from bursar.storage.sql.verify_rounds import BudgetRound
from bursar.storage.sql.verify_scope import Scope
from support.engines import Database

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
EXAMPLES = 300 if IS_LONG else 25
STEPS_EACH = 50

ADD_EVENTS = """INSERT INTO event_key (org, key, occurred_at, revision)
    SELECT org, source, at, 0 FROM posting
    WHERE org = ? AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.org = posting.org AND h.id = source)
    ON CONFLICT DO NOTHING"""
MOVE = """INSERT INTO audit (org, seq, at, actor, action, target, details)
    VALUES (?, ?, 0, '', '', ?, '"zone"') ON CONFLICT DO NOTHING"""
BUDGETS = "SELECT id FROM budget WHERE org = ? ORDER BY id"


@pytest.fixture
def files(database: Database) -> Iterator[Files]:
    opened = Files(database)
    yield opened
    opened.close()


def test_nothing_that_decisions_write_is_a_violation(files: Files) -> None:
    audits = []

    class AuditedMachine(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.engine = StoredEngine(files)
            self.recent = RecentBudgets()

        @rule()
        def audit(self) -> None:
            audits.append(self.found(self.recent.check))

        def teardown(self) -> None:
            self.audit()
            self.found(verify_budgets.check)
            self.found(round_of)

        def found(self, check: Callable[[Scope], object]) -> int:
            findings = Findings()
            org = self.engine.org
            files.database.change(ADD_EVENTS, org)
            for (budget,) in files.database.rows(BUDGETS, org):
                # A number of its own, whichever budgets come before it by the next audit.
                files.database.change(MOVE, org, int.from_bytes(budget[-6:]) + 1, f"bud_{budget.hex()}")
            files.engine.snapshots().read(
                lambda snapshot: check(Scope(snapshot.connection, org, findings)), findings
            )
            report = findings.report()
            assert report.violations == ()
            return sum(one.checked for one in report.checks)

    run_state_machine_as_test(
        AuditedMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Each example is audited at its end at least; how much there is to check then is drawn by chance.
    assert len(audits) >= EXAMPLES
    assert any(audits)


def round_of(scope: Scope) -> None:
    proved = BudgetRound(scope, 0, slice_min=3)
    while not proved.step(scope):
        pass
    for violation in proved.findings.report().violations:
        scope.findings.add(violation)
