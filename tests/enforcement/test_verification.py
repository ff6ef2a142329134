"""The auditor finds every kind of damage to a window, and nothing in a sound file."""

from pathlib import Path

import pytest
from memory_engine import cost, numbered
from stored_engine import Files, StoredEngine, make_organisation

from bursar.budgets.budget import Budget
from bursar.core.periods import Period
from support.damage import inflict
from support.engines import Database

A_SETTLED = "(SELECT id FROM hold WHERE state = 'settled')"
DAMAGE = {
    "settled is one off": "UPDATE budget_window SET settled = settled + 1",
    "held is one off": "UPDATE budget_window SET held = held + 1",
    "an open leg is not counted": "UPDATE budget_window SET open_legs = 0",
    "a posting is gone": "DELETE FROM posting",
    "a posting cannot be read": "UPDATE posting SET parts = x'00'",
    "an open hold is gone": "DELETE FROM hold WHERE state = 'open'",
    "an open hold's legs cannot be read": "UPDATE hold SET legs = x'00' WHERE state = 'open'",
    "a settled hold is open again": f"UPDATE hold SET state = 'expired' WHERE id <> {A_SETTLED}",
    "a window is gone": "DELETE FROM budget_window",
    "more is used than the limit and the lists say": "UPDATE budget_window SET limit_amount = 10",
    "two windows overlap": """INSERT INTO budget_window
        SELECT org, budget, member, starts_at + 1, ends_at + 1, limit_amount, 'open',
            0, 0, 0, 0, 0, 0, 0, 0, '[]', 0, 0, '' FROM budget_window""",
}


@pytest.fixture(scope="module")
def sound(module_database: Database) -> Database:
    """A database with a settled and an open hold in one window."""
    files = Files(module_database)
    engine = StoredEngine(files)
    engine.create(Budget(id=numbered(901), limit=100, created_at=1, period=Period.MONTHLY))
    engine.settle(engine.hold(cost(30)), cost(25))
    engine.hold(cost(40))
    files.close()
    make_organisation(module_database)
    return module_database


def test_what_is_sound_has_no_violation(sound: Database) -> None:
    report = sound.verify()
    assert report.violations == ()
    assert {check.name: check.checked for check in report.checks}["windows"] == 1


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=list(DAMAGE))
def test_damage_to_a_window_is_found(sound: Database, tmp_path: Path, statement: str) -> None:
    damaged = sound.copied(tmp_path / "damaged")
    assert inflict(damaged, statement) > 0
    found = {violation.check for violation in damaged.verify().violations}
    assert found
    assert found <= {"windows", "holds", "postings"}
    damaged.drop()
