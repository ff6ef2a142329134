"""Run the `bursar` program and look at what came out.

Commands run one after the other in processes forked from one that has imported everything
(`support.warm`); `cold` starts one from nothing, as a shell does.
"""

import atexit
import json
import subprocess
import sys
import tempfile
from functools import cache
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
    with tempfile.TemporaryDirectory() as folder:
        out, talk = Path(folder, "out"), Path(folder, "talk")
        order = {
            "arguments": list(map(str, arguments)),
            "environment": environment(env),
            "directory": str(cwd or Path.cwd()),
            "out": str(out),
            "talk": str(talk),
            "seconds": SECONDS_MAX,
        }
        warm = _warm()
        if warm.stdin is None or warm.stdout is None:
            raise AssertionError("the process was started with pipes")
        warm.stdin.write(json.dumps(order) + "\n")
        warm.stdin.flush()
        return Ran(int(warm.stdout.readline()), out.read_text(), talk.read_text())


def cold(*arguments: str | Path, **env: str) -> Ran:
    """Run `bursar` as a shell would, imports and all."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@cache
def _warm() -> "subprocess.Popen[str]":
    """Start the process that the commands of this run are forked from."""
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    process = subprocess.Popen(
        command, env=environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        if process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            process.wait(SECONDS_MAX)
            process.stdout.close()

    atexit.register(end)
    return process
