"""Two treasuries on one PostgreSQL database, for the tests of a module."""

from collections.abc import Iterator

import pytest

from support.engines import Database, temporary_database
from support.fleet import Fleet, open_fleet

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with temporary_database("postgres", tmp_path_factory.mktemp("shared") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def fleet(shared: Database) -> Iterator[Fleet]:
    with open_fleet(shared) as opened:
        yield opened
        assert shared.rows(DEADLOCKS) == [(0,)]
