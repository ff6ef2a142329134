"""Cold starts, memory at rest, the size of an install, and the way back after a crash."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

from filled import Filled, copied
from ingest import BODIES, ORDERED, calls_of
from load import send_batches
from quiet import wait
from results import Figure, Results, say
from server import Server, prepare, serving
from traffic import write_bodies

ROOT = Path(__file__).parents[1]
KILLED_AFTER_SECONDS = 1.5
MIB = 2**20


def start(work: Path, results: Results, *, repeats: int) -> None:
    """Measure the start on a new ledger, and the memory before the first request."""
    data_dir = work / "start"
    prepare(data_dir)
    times: list[float] = []
    memory: list[float] = []
    for _ in range(repeats):
        wait()
        with serving(data_dir) as server:
            times.append(server.first_answer_s)
            memory.append(server.rss_at_start_mib)
    notes: dict[str, float | str] = {"slowest": max(times)}
    results.add(Figure("start to first answer", median(times), "s", 1.5, at_least=False, notes=notes))
    results.add(Figure("memory before the first request", median(memory), "MiB", 120, at_least=False))


def restart(work: Path, results: Results, original: Filled, *, repeats: int) -> None:
    """Kill a server in the middle of ingest, start it again, and wait for a report."""
    ledger = copied(original, work / "filled")
    folder = Path(ledger.folder)
    bodies = work / "bodies"
    times: list[float] = []
    log: list[float] = []
    for number in range(repeats):
        write_bodies(bodies, calls_of(ORDERED, seed=500 + number), BODIES)
        with serving(folder) as server:
            _kill_while_busy(server, bodies, ledger.key)
        log.append(ledger.path.with_name(f"{ledger.path.name}-wal").stat().st_size / MIB)
        wait()
        with serving(folder) as server:
            status, body = server.get("/v1/costs", {"Authorization": f"Bearer {ledger.key}"})
            assert status == 200, body
            times.append(time.perf_counter() - server.began_s)
    shutil.rmtree(folder)
    shutil.rmtree(bodies)
    notes: dict[str, float | str] = {"slowest": max(times), "write-ahead log MiB": median(log)}
    name = f"kill -9 during ingest, {original.events / 1e6:.0f} million events: restart to first report"
    results.add(Figure(name, median(times), "s", 2, at_least=False, notes=notes))


def _kill_while_busy(server: Server, bodies: Path, key: str) -> None:
    """Send batches; kill the server while they come."""
    killer = threading.Timer(KILLED_AFTER_SECONDS, server.process.kill)
    killer.start()
    send_batches(server, bodies, key, range(BODIES), seconds=KILLED_AFTER_SECONDS + 0.5, may_fail=True)
    killer.join()
    server.process.wait()


def install(work: Path, results: Results) -> None:
    """Build the distribution, install it into an environment of its own, measure that."""
    uv = ROOT / ".tools/bin/uv"
    if not uv.exists():
        say("no installer in .tools: run `make setup` first; the install is not measured")
        return
    home = work / "install"
    run = (str(uv), "build", "-q", "--wheel", "--out-dir", str(home / "dist"), str(ROOT))
    subprocess.run(run, check=True)
    environment = home / "env"
    subprocess.run((str(uv), "venv", "-q", "--python", sys.executable, str(environment)), check=True)
    wheel = next((home / "dist").glob("bursar-*.whl"))
    command = (str(uv), "pip", "install", "-q", "--link-mode", "copy", "--python")
    subprocess.run((*command, str(environment / "bin/python"), str(wheel)), check=True)
    packages = next((environment / "lib").glob("python*/site-packages"))
    used = {path.name: _bytes_in(path) / MIB for path in packages.iterdir()}
    largest = sorted(used, key=used.__getitem__, reverse=True)[:6]
    notes: dict[str, float | str] = {name: used[name] for name in largest}
    notes["wheel KiB"] = wheel.stat().st_size / 1024
    total = _bytes_in(environment) / MIB
    results.add(Figure("server install", total, "MiB", 120, at_least=False, notes=notes))


def _bytes_in(path: Path) -> int:
    """Return the bytes on disk of a file or a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.lstat().st_blocks * 512 for one in files if not one.is_symlink())
