"""Run the real `bursar` program in a process of its own and look at what came out."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from support.server import PROGRAM, environment

SECONDS_MAX = 60


class Ran(NamedTuple):
    """What a command left: its exit code, its output, and its talk."""

    code: int
    out: str
    talk: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - whatever the command printed
        """The one JSON document on standard output."""
        return json.loads(self.out)


def bursar(*arguments: str | Path, cwd: Path | None = None, **env: str) -> Ran:
    """Run `bursar` with `arguments`; `env` adds to its environment."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
