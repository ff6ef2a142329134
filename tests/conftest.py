"""Lets every test import `support`, and gives it a database of either engine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from support import services
from support.engines import FOLDER, KINDS, Database, is_missing, temporary_database

HERE = Path(__file__).parent
DOORS = {"attacks", "http", "identity"}
LONG = "BURSAR_TEST_LONG"


def pytest_configure(config: pytest.Config) -> None:
    """Say where this run's server is to be started, if a test needs it."""
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = str(services.folder_for_tests())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Throw the server away when the run is over."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(FOLDER))
        services.throw_away(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that half of the proof is missing."""
    if is_missing():
        terminalreporter.section("PostgreSQL is missing", yellow=True)
        terminalreporter.line("What has to hold on it as well was not proved: run `make services` as root.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a database on both engines, or on those that its module names in `ENGINES`."""
    if "engine_kind" in metafunc.fixturenames:
        metafunc.parametrize("engine_kind", getattr(metafunc.module, "ENGINES", KINDS), scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ask PostgreSQL one case of each test of the doors: the others differ in what no storage sees.

    Tests of storage, the ledger and enforcement are whole on both engines; in the long form everything is.
    """
    if LONG in os.environ:
        return
    seen: set[str] = set()
    kept, left = [], []
    for item in items:
        name = f"{item.path}::{getattr(item, 'originalname', item.name)}"
        is_one = isinstance(item, pytest.Function) and _is_at_the_door(item)
        (left if is_one and name in seen else kept).append(item)
        if is_one:
            seen.add(name)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def _is_at_the_door(item: pytest.Function) -> bool:
    called = getattr(item, "callspec", None)
    is_postgres = called is not None and called.params.get("engine_kind") == "postgres"
    return is_postgres and item.path.relative_to(HERE).parts[0] in DOORS


@pytest.fixture
def database(engine_kind: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database for one test."""
    with temporary_database(engine_kind, tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def module_database(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An empty database for the tests of a module."""
    with temporary_database(engine_kind, tmp_path_factory.mktemp("module") / "data") as made:
        yield made
