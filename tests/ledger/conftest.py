"""Lets the tests of this folder import its ledger."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from audited_ledger import AuditedLedger, fill

from support.engines import Database


@pytest.fixture
def ledger(database: Database) -> Iterator[AuditedLedger]:
    opened = AuditedLedger(database)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file in which everything has happened; copy it before you break it."""
    ledger = AuditedLedger(tmp_path_factory.mktemp("good"))
    fill(ledger)
    ledger.close()
    return ledger.path
