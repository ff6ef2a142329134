"""A data directory with an organisation `default`, alone and with a server on it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.program import bursar
from support.server import running_server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: most of a first run is the schema."""
    path = tmp_path_factory.mktemp("template") / "data"
    assert bursar("init", "--data-dir", path).code == 0
    return path


@pytest.fixture
def alone(template: Path, tmp_path: Path) -> Path:
    """A ledger's directory without a server."""
    return Path(shutil.copytree(template, tmp_path / "data"))


@pytest.fixture(params=["server", "no server"])
def ledger(request: pytest.FixtureRequest, alone: Path) -> Iterator[Path]:
    """A ledger's directory; what writes is tested both ways."""
    with ExitStack() as stack:
        if request.param == "server":
            stack.enter_context(running_server(alone))
        yield alone
