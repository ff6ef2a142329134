"""Leases under attack, with a real server and real client processes: nothing passes the limit.

Clients are killed, stopped and forked, reports come twice and late, the network is cut, the server
is killed. What was really spent stands in the facts that each process leaves behind. Short form:
some seconds; long form (`make faults`): thirty processes for two minutes.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bursar.core.money import nusd_from_text
from bursar.wiring import verify_file
from support import lease_process
from support.proxy import Proxy
from support.server import Server, environment, running_server

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
PROCESSES = 30 if IS_LONG else 4
SECONDS = 120.0 if IS_LONG else 4.0
LIMIT_USD = "120.00" if IS_LONG else "6.00"
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
WORST = 10_000_000
AGENT = "bot"
EXPIRY_S = 3.2
"""A lease's end here is 2 s after its last renewal; the job that lets it lapse runs each second."""

pytestmark = pytest.mark.long


class Fleet:
    """Processes that spend one budget."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self.running: list[subprocess.Popen[bytes]] = []
        self.kills = 0
        self._number = 0
        (folder / "facts").mkdir(parents=True)

    def start(self, base_url: str, **fields: object) -> "subprocess.Popen[bytes]":
        self._number += 1
        plan = {
            "base_url": base_url,
            "key": self.key,
            "agent": AGENT,
            "folder": str(self.folder / "journals"),
            "facts": str(self.folder / "facts" / str(self._number)),
            "worst": WORST,
            "seed": SEED + self._number,
        }
        with (self.folder / "clients.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, lease_process.__file__, json.dumps(plan | fields)],
                env=environment({}),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.running.append(process)
        return process

    def kill9(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        self._ended(process)
        self.kills += 1

    def end_all(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in list(self.running):
            self._ended(process)

    def wait(self, process: "subprocess.Popen[bytes]") -> str:
        out, _ = process.communicate(timeout=60)
        self.running.remove(process)
        assert process.returncode == 0, (self.folder / "clients.log").read_text()[-2000:]
        return out.decode()

    def facts(self, kind: str) -> list[str]:
        lines = [line for path in (self.folder / "facts").iterdir() for line in path.read_text().splitlines()]
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]

    def spent(self) -> int:
        return sum(map(int, self.facts("f")))

    def _ended(self, process: "subprocess.Popen[bytes]") -> int:
        code = process.wait(60)
        self.running.remove(process)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def close(self) -> None:
        for process in list(self.running):
            self.kill9(process)


@contextmanager
def fleet_of(folder: Path, server: Server) -> Iterator[Fleet]:
    fleet = Fleet(folder, str(server.ingest_key))
    try:
        yield fleet
    finally:
        fleet.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def budgeted(server: Server, limit: str) -> str:
    body = {"name": "cap", "scope": {"agent": AGENT}, "limit": limit, "period": "total",
            "on_expiry": "suspense"}  # fmt: skip
    answer = server.post("/v1/budgets", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def window(server: Server, budget: str) -> dict[str, int]:
    shown = server.get(f"/v1/budgets/{budget}/windows").json()["data"][0]
    return {name: nusd_from_text(shown[name]) for name in ("limit", "settled", "held", "overrun", "unheld")}


class Watch:
    """Looks at the window all the time; what it saw above the limit is a failure."""

    def __init__(self, base_url: str, token: str, budget: str) -> None:
        self._path = f"/v1/budgets/{budget}/windows"
        self._client = httpx2.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=5
        )
        self._end = threading.Event()
        self.looks = 0
        self.above: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            try:
                [shown] = self._client.get(self._path).json()["data"]
            except (httpx2.TransportError, ValueError, KeyError):
                continue
            self.looks += 1
            if nusd_from_text(shown["settled"]) + nusd_from_text(shown["held"]) > nusd_from_text(
                shown["limit"]
            ):
                self.above.append(shown)

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()


def test_nothing_that_happens_to_clients_network_or_server_passes_the_limit(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    data, port = tmp_path / "data", free_port()
    with running_server(data, "--port", str(port)) as server, Proxy(port) as proxy:
        budget = budgeted(server, LIMIT_USD)
        key, token = str(server.ingest_key), server.token
        fleet = Fleet(tmp_path / "clients", key)
        watch = Watch(server.base_url, token, budget)
        try:
            ways = [server.base_url, f"http://127.0.0.1:{proxy.port}"]
            for number in range(PROCESSES):
                fleet.start(ways[number % 2], doubles=number % 3 != 0, forks=number == 1)
            attack(fleet, chance, proxy, ways, until=time.monotonic() + SECONDS / 2)
            server.kill9()
            with running_server(data, "--port", str(port)) as second:
                attack(fleet, chance, proxy, ways, until=time.monotonic() + SECONDS / 2)
                finish(second, fleet, budget)
        finally:
            watch.close()
            fleet.close()
    assert watch.looks > 10
    assert watch.above == []
    assert verify_file(data).violations == ()


def attack(fleet: Fleet, chance: random.Random, proxy: Proxy, ways: list[str], *, until: float) -> None:
    """Kill and replace, stop for longer than a lease lasts, cut and heal."""
    frozen: list[subprocess.Popen[bytes]] = []
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.2, 0.5))
        chosen = chance.choice(fleet.running)
        drawn = chance.random()
        if drawn < 0.3 and chosen not in frozen:
            fleet.kill9(chosen)
            fleet.start(chance.choice(ways), doubles=True)
        elif drawn < 0.5 and len(frozen) < 2:
            chosen.send_signal(signal.SIGSTOP)
            frozen.append(chosen)
        elif drawn < 0.6:
            for process in frozen:
                process.send_signal(signal.SIGCONT)
            frozen.clear()
        elif drawn < 0.8:
            proxy.cut()
        else:
            proxy.heal()
    proxy.heal()


def finish(server: Server, fleet: Fleet, budget: str) -> None:
    """End everybody, replay what the dead left, let leases end, and compare with the facts."""
    fleet.end_all()
    time.sleep(EXPIRY_S)
    fleet.wait(fleet.start(server.base_url, only_replays=True))
    shown = window(server, budget)
    spent = fleet.spent()
    lost = spent - shown["settled"]
    print(  # noqa: T201 - the figures of the reliability page
        f"seed {SEED}: {len(fleet.facts('b'))} calls, {spent / 1e9:.4f} USD spent,"
        f" {fleet.kills} clients killed, settled {shown['settled'] / 1e9:.4f},"
        f" in suspense {shown['held'] / 1e9:.4f}, never reported {lost / 1e9:.4f}"
    )
    assert shown["overrun"] == shown["unheld"] == 0
    assert shown["settled"] + shown["held"] <= shown["limit"]
    # What a killed process spent and could not write down is at most its one call.
    assert 0 <= lost <= min(shown["held"], (fleet.kills + 1) * WORST)
    assert fleet.facts("b"), "nobody could spend"


def test_a_healthy_fleet_fills_the_budget_to_the_last_call(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, fleet_of(tmp_path / "clients", server) as fleet:
        budget = budgeted(server, "1.00")
        for _ in range(3):
            fleet.start(server.base_url, until_full=True, pace_s=0.002)
        for process in list(fleet.running):
            fleet.wait(process)
        shown = window(server, budget)
        assert shown["settled"] == fleet.spent()
        assert (shown["held"], shown["overrun"], shown["unheld"]) == (0, 0, 0)
        assert shown["limit"] - shown["settled"] < 3 * WORST
    assert verify_file(tmp_path / "data").violations == ()


def test_a_kill_reaches_a_connected_client_within_two_seconds_and_one_cut_off_by_its_leases_end(
    tmp_path: Path,
) -> None:
    ttl_s = 2.2
    with running_server(tmp_path / "data") as server, fleet_of(tmp_path / "clients", server) as fleet:
        budgeted(server, "900.00")
        with Proxy(int(server.base_url.rpartition(":")[2])) as proxy:
            fleet.start(server.base_url, ttl_s=ttl_s, heartbeat_s=1)
            fleet.start(f"http://127.0.0.1:{proxy.port}", ttl_s=ttl_s, heartbeat_s=1)
            near, far = (fleet.folder / "facts" / name for name in ("1", "2"))
            wait_for(lambda: far.exists() and near.exists() and len(near.read_text()) > 2_000)
            proxy.cut()
            answer = server.post(f"/v1/agents/{AGENT}/kill", {"reason": "test"})
            assert answer.status_code == 200
            killed_at = time.monotonic()
            time.sleep(ttl_s + 0.5)
            begun = [float(last_call(path)) for path in (near, far)]
    assert begun[0] - killed_at <= answer.json()["bound"]["lease_connected_s"] == 2
    assert begun[1] - killed_at <= ttl_s


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def last_call(path: Path) -> str:
    return [line for line in path.read_text().splitlines() if line.startswith("b ")][-1].partition(" ")[2]
