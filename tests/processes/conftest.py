"""What the tests of processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import Database, temporary_database


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    """An empty database that many processes may have open."""
    with temporary_database("postgres", tmp_path / "data") as made:
        yield made
