"""Lets the tests of this folder import its ledger."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from audited_ledger import AuditedLedger, fill


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[AuditedLedger]:
    opened = AuditedLedger(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file in which everything has happened; copy it before you break it."""
    ledger = AuditedLedger(tmp_path_factory.mktemp("good"))
    fill(ledger)
    ledger.close()
    return ledger.path
