"""Lets the tests of this folder import its ledger of made-up events."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from written_ledger import WrittenLedger

from support.engines import temporary_database


@pytest.fixture(scope="session")
def ledger(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WrittenLedger]:
    """One database for all tests: in its own organisation each is a stranger to all others."""
    with temporary_database(engine_kind, tmp_path_factory.mktemp("ledger") / "data") as database:
        opened = WrittenLedger(database)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def elsewhere(ledger: WrittenLedger) -> Iterator[WrittenLedger]:
    """The same database as another process has it open, where an engine lets several write it."""
    if ledger.database.kind == "sqlite":
        yield ledger
        return
    opened = WrittenLedger(ledger.database)
    yield opened
    opened.close()
