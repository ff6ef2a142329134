"""Lets every test import `support`, and gives it a database of either engine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from support import services
from support.engines import FOLDER, KINDS, Database, is_missing, temporary_database


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
