"""Does each operation on money in a child that is killed at its n-th SQL statement, on a SQLite file.

Prints one JSON line a kill: the operation, the statement, and what the file holds. A process of its own,
because it forks.
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2

sys.path.append(str(Path(__file__).parents[1]))

from support.crash import is_killed, kill_at
from support.desk import Desk, open_desk
from support.operations import OPERATIONS, set_up, state


def do_until(desk: Desk, operation: Callable[[], httpx2.Response], statement: int) -> None:
    """Run in the child: never comes back when the operation has that many statements."""
    desk._runner = asyncio.Runner()
    desk._open()
    kill_at(desk.treasury.engine.store._writer, statement)  # type: ignore[attr-defined] # SQLite's
    assert operation().status_code < 300


def tried(desk: Desk, name: str, statement: int) -> bool:
    """Kill a child at `statement`, look at the file, ask again; return whether it got there."""
    operation = OPERATIONS[name](desk)
    before = state(desk.database)
    desk.close()
    desk.database.release()
    killed = is_killed(partial(do_until, desk, operation, statement))
    desk._open()
    after = state(desk.database)
    again = operation()
    whole = state(desk.database)
    outcome = {
        "operation": name,
        "statement": statement,
        "killed": killed,
        "state": "absent" if after == before else "whole" if after == whole else "half",
        "again": again.status_code,
        "violations": [str(violation) for violation in desk.violations()] if not killed else [],
    }
    print(json.dumps(outcome), flush=True)  # noqa: T201 - the parent reads it
    return killed


def main(folder: Path, stride: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    with open_desk(folder) as desk:
        set_up(desk)
        for name in OPERATIONS:
            statement = chance.randint(1, stride)
            while tried(desk, name, statement):
                statement += stride


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
