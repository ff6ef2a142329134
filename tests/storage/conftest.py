"""Real files for the storage tests; the ledger they write is the one of `tests/ledger`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from audited_ledger import AuditedLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[AuditedLedger]:
    """A file of its own, proved when the test is over."""
    opened = AuditedLedger(tmp_path / "data")
    yield opened
    assert opened.verify().violations == ()
    opened.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedLedger]:
    """One file for all examples, each in an organisation of its own; proved at the end."""
    opened = AuditedLedger(tmp_path_factory.mktemp("shared"))
    yield opened
    assert opened.verify().violations == ()
    opened.close()
