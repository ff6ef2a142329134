"""What the tests of processes share: a PostgreSQL database, and what its books must say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import Database, new_database


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    """A database that many processes may have open."""
    made = new_database("postgres", tmp_path / "data")
    yield made
    made.drop()
