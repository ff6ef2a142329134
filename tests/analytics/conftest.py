"""Lets the tests of this folder import its ledger of made-up events."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from written_ledger import WrittenLedger


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WrittenLedger]:
    """One file for all tests: each takes an organisation of its own, so all others are strangers in it."""
    opened = WrittenLedger(tmp_path_factory.mktemp("ledger"))
    yield opened
    opened.close()
