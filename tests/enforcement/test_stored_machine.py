"""The state machine of `tests/budgets`, with every step also taken through the desk on a file."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from stored_engine import Files, StoredEngine
from test_machine import Machine

from support.engines import Database

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
STEPS_MIN = {"sqlite": 60_000 if IS_LONG else 2_000, "postgres": 20_000 if IS_LONG else 500}
STEPS_EACH = 50


@pytest.fixture
def files(database: Database) -> Iterator[Files]:
    opened = Files(database)
    yield opened
    opened.close()


@pytest.mark.long
def test_what_lies_on_the_disk_is_what_was_decided(files: Files) -> None:
    class StoredMachine(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.engine = StoredEngine(files)

        @precondition(lambda self: self.engine.book.windows)
        @rule()
        def restart(self) -> None:
            """Close and reopen the file; what was answered must still stand."""
            self.engine.restart()
            self.holds = [self.engine.book.holds[hold.id] for hold in self.holds]

    steps_min = STEPS_MIN[files.database.kind]
    Machine.steps = 0
    run_state_machine_as_test(
        StoredMachine,
        settings=settings(
            max_examples=steps_min // STEPS_EACH * 14 // 10,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.steps >= steps_min
