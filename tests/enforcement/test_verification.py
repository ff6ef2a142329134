"""The auditor finds every kind of damage to a window, and nothing in a sound file."""

import sqlite3
from pathlib import Path

import pytest
from memory_engine import cost, numbered
from stored_engine import Files, StoredEngine

from bursar.budgets.budget import Budget
from bursar.core.periods import Period
from bursar.storage.sql.verify import verify_file
from bursar.storage.sqlite.connection import open_writer

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
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a settled and an open hold in one window."""
    files = Files(tmp_path_factory.mktemp("sound"))
    engine = StoredEngine(files)
    engine.create(Budget(id=numbered(901), limit=100, created_at=1, period=Period.MONTHLY))
    engine.settle(engine.hold(cost(30)), cost(25))
    engine.hold(cost(40))
    path = files.store.path
    files.close()
    with sqlite3.connect(path) as connection:
        connection.execute(
            """INSERT INTO organisation (org, id, name, zone, currency, cost_basis, created_at)
            VALUES (1, x'01', 'acme', 'UTC', 'USD', 'computed', 5)"""
        )
    connection.close()
    return path


def test_a_sound_file_has_no_violation(sound: Path) -> None:
    report = verify_file(sound)
    assert report.violations == ()
    assert {check.name: check.checked for check in report.checks}["windows"] == 1


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=list(DAMAGE))
def test_damage_to_a_window_is_found(sound: Path, tmp_path: Path, statement: str) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(sound.read_bytes())
    connection = open_writer(damaged)
    connection.execute(statement)
    connection.close()
    found = {violation.check for violation in verify_file(damaged).violations}
    assert found
    assert found <= {"windows", "holds", "postings"}
