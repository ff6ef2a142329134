"""Lets the tests of this folder import its ledger of made-up events."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from written_ledger import WrittenLedger

from support.engines import Database


@pytest.fixture(scope="session")
def ledger(session_database: Database) -> Iterator[WrittenLedger]:
    """One database for all tests: in its own organisation each is a stranger to all others."""
    opened = WrittenLedger(session_database)
    yield opened
    opened.close()
