"""Ledgers to copy: one in which everything has happened, and a row in each table beside."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from audited_ledger import AuditedLedger, fill

from support.engines import Database, temporary_database


@pytest.fixture
def filled(database: Database) -> Database:
    """A ledger of either engine, closed."""
    ledger = AuditedLedger(database)
    fill(ledger)
    ledger.close()
    return database


@pytest.fixture
def filled_file(tmp_path: Path) -> Path:
    """A data directory with a ledger, closed."""
    ledger = AuditedLedger(tmp_path / "source")
    fill(ledger)
    ledger.close()
    return tmp_path / "source"


@pytest.fixture
def empty_database(tmp_path: Path) -> Iterator[Database]:
    """PostgreSQL with the schema and nothing in it."""
    with temporary_database("postgres", tmp_path / "empty") as made:
        yield made
