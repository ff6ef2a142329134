"""One treasury a module, with people in it; lets the tests of this folder import what they share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.desk import Desk, open_desk
from support.engines import Database

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def desk(module_database: Database) -> Iterator[Desk]:
    with open_desk(module_database) as opened:
        yield opened
