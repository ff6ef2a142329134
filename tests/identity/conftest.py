"""One treasury a module, with people in it; lets the tests of this folder import what they share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.desk import Desk, open_desk

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("people") / "data") as opened:
        yield opened
