"""One treasury for all attacks of a module: what one leaves behind, the next one meets."""

from collections.abc import Iterator

import pytest

from support.desk import Desk, open_desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("attacked") / "data") as opened:
        yield opened
