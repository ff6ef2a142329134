"""A process that spends a budget by leases until it is told to end, and writes down the truth.

python lease_process.py '{"base_url": …, "facts": …}'

Each call leaves two facts, whatever becomes of the process: that it began (`b`, when) and that
it is over (`f`, what it cost). They are no part of the client's journal. Reports may be sent twice,
and again later, as networks do.
"""

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

sys.path.append(str(Path(__file__).parents[1]))

from support.lease_client import Exceeded, LeaseClient, Settings, Stopped, Unreachable


class Plan(NamedTuple):
    """What a process is told; `pace_s` is how long a call takes, amounts are nano-USD."""

    base_url: str
    key: str
    agent: str
    folder: str
    facts: str
    worst: int = 10_000_000
    pace_s: float = 0.005
    seed: int = 0
    ttl_s: float = 1.2
    deadline_s: float = 0.4
    grace_s: float = 0.4
    heartbeat_s: float = 0.4
    doubles: bool = False
    forks: bool = False
    only_replays: bool = False
    until_full: bool = False


class Doubling(httpx2.BaseTransport):
    """Sends some reports twice at once, and some again after a while."""

    def __init__(self, chance: random.Random) -> None:
        self._inner = httpx2.HTTPTransport()
        self._later = httpx2.HTTPTransport()
        self._chance = chance

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/report"):
            again = httpx2.Request(
                request.method, request.url, headers=request.headers, content=request.read()
            )
            drawn = self._chance.random()
            if drawn < 0.2:
                self._inner.handle_request(again).read()
            elif drawn < 0.4:
                threading.Timer(self._chance.uniform(0.1, 1.5), self._send, [again]).start()
        return self._inner.handle_request(request)

    def _send(self, request: httpx2.Request) -> None:
        with contextlib.suppress(httpx2.TransportError):
            self._later.handle_request(request).read()

    def close(self) -> None:
        self._inner.close()


class Facts:
    """What really happened, on a file that is only ever appended to."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, kind: str, value: object = "") -> None:
        os.write(self._file, f"{kind} {value}\n".encode())


def spend(plan: Plan, client: LeaseClient, facts: Facts, chance: random.Random) -> None:
    """Call until somebody ends it, or the budget is full and that was the plan."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    parent, child = os.getppid(), 0
    forks_at = time.monotonic() + 1 if plan.forks else float("inf")
    while not ended.is_set() and os.getppid() == parent:
        if time.monotonic() > forks_at:
            forks_at = float("inf")
            before = os.getpid()
            child = os.fork()
            if not child:
                parent, facts = before, Facts(f"{plan.facts}-child")
        try:
            call = client.call(plan.worst)
        except (Stopped, Unreachable) as error:
            facts.add("r", type(error).__name__)
            ended.wait(0.05)
        except Exceeded as error:
            facts.add("e", error.problem["reason"])
            if plan.until_full and error.problem["reason"] == "no_room":
                return
            ended.wait(0.1)
        else:
            facts.add("b", time.monotonic())
            time.sleep(plan.pace_s)
            cost = chance.randint(plan.worst // 2, plan.worst)
            facts.add("f", cost)
            call.finish(cost)
    if child:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def main(told: dict[str, Any]) -> int:
    plan = Plan(**told)
    chance = random.Random(plan.seed)  # noqa: S311 - repeatable
    settings = Settings(
        plan.base_url,
        plan.key,
        plan.agent,
        "any-model",
        Path(plan.folder),
        ttl_s=plan.ttl_s,
        deadline_s=plan.deadline_s,
        grace_s=plan.grace_s,
        heartbeat_s=plan.heartbeat_s,
        calls_per_s=40,
    )
    client = LeaseClient(settings, transport=partial(Doubling, chance) if plan.doubles else None)
    if plan.only_replays:
        print(client.replay())  # noqa: T201 - the answer
        return 0
    spend(plan, client, Facts(plan.facts), chance)
    return 0 if client.close() else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
