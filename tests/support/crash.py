"""Kill a child of this process at its n-th SQL statement, and say whether it got there."""

import os
import signal
import sqlite3
from collections.abc import Callable


def kill_at(connection: sqlite3.Connection | None, statement: int) -> None:
    """Make this process kill itself when `connection` runs that many statements from now on."""
    seen = 0

    def count(_sql: str) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    assert connection is not None
    connection.set_trace_callback(count)


def is_killed(run: Callable[[], None]) -> bool:
    """Run `run` in a forked child; return whether it was killed before it came back."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
