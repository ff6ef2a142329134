"""Real databases for the storage tests; the ledger they write is the one of `tests/ledger`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from audited_ledger import AuditedLedger

from support.engines import Database, temporary_database


@pytest.fixture
def ledger(database: Database) -> Iterator[AuditedLedger]:
    """A database of its own, proved when the test is over."""
    opened = AuditedLedger(database)
    yield opened
    assert opened.verify().violations == ()
    opened.close()


@pytest.fixture(scope="session")
def shared(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedLedger]:
    """One database for all examples, each in an organisation of its own; proved at the end."""
    with temporary_database(engine_kind, tmp_path_factory.mktemp("shared") / "data") as database:
        opened = AuditedLedger(database)
        yield opened
        assert opened.verify().violations == ()
        opened.close()
