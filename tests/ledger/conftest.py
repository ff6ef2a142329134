"""Lets the tests of this folder import its ledger."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from audited_ledger import AuditedLedger, fill

from support.engines import Database, temporary_database


@pytest.fixture
def ledger(database: Database) -> Iterator[AuditedLedger]:
    opened = AuditedLedger(database)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def good_ledger(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database in which everything has happened, opened by nobody; copy it before you break it."""
    with temporary_database(engine_kind, tmp_path_factory.mktemp("good") / "data") as made:
        ledger = AuditedLedger(made)
        fill(ledger)
        ledger.close()
        yield made


@pytest.fixture
def copy(good_ledger: Database, tmp_path: Path) -> Iterator[Database]:
    """A copy of it, to be broken."""
    made = good_ledger.copied(tmp_path / "copy")
    yield made
    made.drop()


@pytest.fixture(scope="session")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file in which everything has happened; copy it before you break it."""
    ledger = AuditedLedger(tmp_path_factory.mktemp("good"))
    fill(ledger)
    ledger.database.release()
    ledger.close()
    return ledger.path
