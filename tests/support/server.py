"""Start the real server as a process of its own, speak to it, and end it gently or not.

with running_server(tmp_path) as server:
    server.post("/v1/ingest", {"events": [...]}, key=server.ingest_key)
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx2

from support.engines import Database, database_of

PROGRAM = [sys.executable, "-m", "bursar.cli.main"]
START_S = 30.0
STOP_S = 20.0
_KEY = re.compile(r"\bak_local_[0-9a-f]{64}\b")


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without our own variables, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", "BURSAR_DRAIN_SECONDS": "0", **extra}


class Server:
    """A running `bursar serve`.

    Attributes:
        base_url: Where it answers.
        pid: Its process.
        token: The operator's token, which may do everything.
        ingest_key: Printed by the first run on a data directory; None on later ones.
        greeting: All that it printed when it began.
    """

    def __init__(
        self, process: "subprocess.Popen[str]", data_dir: Path, greeting: str, base_url: str
    ) -> None:
        self._process = process
        self.data_dir = data_dir
        self.greeting = greeting
        self.base_url = base_url
        self.pid = process.pid
        self.token = (data_dir / "operator.token").read_text().strip()
        found = _KEY.search(greeting)
        self.ingest_key = found[0] if found else None
        # A keep-alive connection must not outlive a killed server in a later test.
        self.client = httpx2.Client(base_url=base_url, timeout=30, trust_env=False)

    def request(
        self, method: str, path: str, *, key: str | None = None, org: str = "", **options: object
    ) -> httpx2.Response:
        """Send one request, as the operator unless `key` is given; `json=`, `content=`, `params=` pass on."""
        headers = {"Authorization": f"Bearer {key or self.token}"} | ({"X-Bursar-Org": org} if org else {})
        return self.client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

    def get(self, path: str, *, key: str | None = None, org: str = "", **params: object) -> httpx2.Response:
        return self.request("GET", path, key=key, org=org, params=params)

    def post(self, path: str, body: object, *, key: str | None = None, org: str = "") -> httpx2.Response:
        return self.request("POST", path, key=key, org=org, json=body)

    def stop(self) -> int:
        """End it as an operator would, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    def kill9(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(STOP_S)

    def printed(self) -> str:
        """Return what it has printed since it began, or since the last look."""
        if self._process.stdout is None:
            return ""
        try:
            return os.read(self._process.stdout.fileno(), 65_536).decode()
        except BlockingIOError:
            return ""

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None


@contextmanager
def running_server(place: Database | Path, *arguments: str, **env: str) -> Iterator[Server]:
    """Run a server on a database or a data directory, and a free port; `env` adds to its environment.

    Its log lies in `<data_dir>/../<name>.log`. It is ended at exit if it still runs.
    """
    database = database_of(place)
    data_dir = database.folder
    log_path = data_dir.parent / f"{data_dir.name}.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", "--data-dir", str(data_dir), *arguments],
            env=environment({**database.environment, **env}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            greeting, base_url = _wait(process, data_dir, log_path)
            server = Server(process, data_dir, greeting, base_url)
            with server.client:
                yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            _close(process.stdout)


def _wait(process: "subprocess.Popen[str]", data_dir: Path, log_path: Path) -> tuple[str, str]:
    """Return the greeting and the address, once the address file is this process's."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            address = json.loads((data_dir / "server.json").read_text())
        except (OSError, ValueError):
            address = {}
        if address.get("pid") == process.pid and process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
            return process.stdout.read() or "", address["url"]
        time.sleep(0.01)
    raise AssertionError(f"the server did not start: {log_path.read_text()[-2000:]}")


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()
