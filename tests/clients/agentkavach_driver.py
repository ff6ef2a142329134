"""Runs where the published AgentKavach client is installed: obeys a command a line, answers each by a line.

python agentkavach_driver.py < commands
"""

import importlib
import json
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

agentkavach = importlib.import_module("agentkavach")
guards: dict[str, Any] = {}
kills: dict[str, list[object]] = {}

OK = ""


def budget_of(said: list[Any] | None) -> object:
    return None if said is None else getattr(agentkavach.Budget, said[0])(*said[1:])


def guard(
    name: str,
    options: dict[str, object],
    budget: list[Any] | None = None,
    org_budget: list[Any] | None = None,
) -> dict[str, object]:
    """Make a client object; it syncs its config in the background."""
    own = kills[name] = []

    def on_kill(reason: object = None, *_: object) -> None:
        own.append(reason)

    guards[name] = agentkavach.AgentKavach(
        provider="openai",
        llm_key="sk-fake",
        agent_name=name,
        budget=budget_of(budget),
        org_budget=budget_of(org_budget),
        on_kill=on_kill,
        **options,
    )
    return {}


def one_call(name: str, model: str = "gpt-4o", *, stream: bool = False) -> str:
    """Make one call; say by which error it ended."""
    options: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    if stream:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        answer = guards[name].chat.completions.create(**options)
        for _ in answer if stream else ():
            pass
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what is looked at
        return f"{type(error).__name__}:{getattr(error, 'reason', '')}"
    return OK


def calls(
    name: str, count: int = 1, threads: int = 1, model: str = "gpt-4o", *, stream: bool = False
) -> dict[str, object]:
    """Make calls, from several threads; count how they ended."""
    with ThreadPoolExecutor(threads) as pool:
        ends = pool.map(lambda _: one_call(name, model, stream=stream), range(count))
        return {"ends": Counter(ends)}


def until_stopped(name: str, seconds: float, pause: float = 0.25) -> dict[str, object]:
    """Call until a call is refused, or the time is over."""
    done = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        end = one_call(name)
        if end != OK:
            return {"calls": done, "end": end, "kills": kills[name]}
        done += 1
        time.sleep(pause)
    return {"calls": done, "end": None, "kills": kills[name]}


def shutdown(name: str) -> dict[str, object]:
    """Send what waits, and end."""
    guards.pop(name).shutdown()
    return {}


COMMANDS = {one.__name__: one for one in (guard, calls, until_stopped, shutdown)}


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    for line in sys.stdin:
        said = json.loads(line)
        answer = COMMANDS[said.pop("do")](**said)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
