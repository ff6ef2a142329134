"""One treasury for all attacks of a module: what one leaves behind, the next one meets."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.desk import Desk, open_desk

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("attacked") / "data") as opened:
        yield opened
