"""Published clients in environments of their own, as processes that are told what to do.

with client_process(python_of("2.1.0"), home, backend, provider) as client:
    client.tell("guard", name="bot", options={"api_key": key})

An environment is made once and kept in the user's cache; without a network and without one from
before, a test fails where CI is set and is skipped, with the reason, elsewhere.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
UV = HERE.parents[1] / ".tools" / "bin" / "uv"
INSTALL_S = 240


def python_of(version: str) -> Path:
    """Return the interpreter of an environment with that version of the client."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bursar-tests"
    tag = f"agentkavach-{version}-py{sys.version_info[0]}{sys.version_info[1]}"
    folder = cache / tag
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{tag}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            _install(folder, version)
    return folder / "bin" / "python"


def _install(folder: Path, version: str) -> None:
    requirements = str(HERE / "agentkavach_requirements.txt")
    python = str(folder / "bin" / "python")
    for command in (
        ["venv", "--clear", "--python", sys.executable, str(folder)],
        ["pip", "install", "--python", python, f"agentkavach=={version}", "-r", requirements],
    ):
        done = subprocess.run(
            [str(UV), *command], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            message = f"agentkavach {version} cannot be installed: {done.stderr[-500:]}"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
    (folder / ".complete").touch()


class Client:
    """One process of a published client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def begin(self, do: str, **options: object) -> None:
        """Give a command without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the oldest command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client's process ended; its log says why"
        return dict(json.loads(line))

    def tell(self, do: str, **options: object) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.begin(do, **options)
        return self.answer()


@contextmanager
def client_process(python: Path, home: Path, backend: str, provider: str) -> Iterator[Client]:
    """Run a client's process; its disk buffer lies in `home`, its log in `home/log`."""
    home.mkdir(exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AGENTKAVACH_BACKEND_URL": backend,
        "OPENAI_BASE_URL": provider,
        # Its token counter would fetch a vocabulary from the internet; without one it counts by length.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }
    with (home / "log").open("a") as log:
        process = subprocess.Popen(
            [str(python), str(HERE / "agentkavach_driver.py")],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            yield Client(process)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
