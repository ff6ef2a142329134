"""The system calls of running processes, written down by `strace`, and what they say of answers and syncs."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.desk import event

REQUESTS = 12
ATTACH_S = 20
CALLS = "trace=fsync,fdatasync,read,recvfrom,write,writev,sendto,sendmsg"
SYNC = re.compile(r"(?:fsync|fdatasync)(?:\(| resumed).*= 0$")
DOORS = {
    "/v1/ingest": {"events": [event()]},
    "/v1/track": {"provider": "openai", "model": "gpt-4o", "inputTokens": 1, "outputTokens": 1},
    "/v1/events": {"agent": "a", "model": "gpt-4o", "input_tokens": 1},
}

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and "CI" not in os.environ, reason="no strace here: not proved"
)


def attached(pids: Sequence[int], trace: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start to write the processes' system calls down, and wait until it is so."""
    said = trace.with_suffix(".log")
    processes = [part for pid in pids for part in ("-p", str(pid))]
    with said.open("wb") as log:
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-s", "32", "-e", CALLS, *options, "-o", str(trace), *processes],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    deadline = time.monotonic() + ATTACH_S
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            pytest.skip(f"strace may not look at processes here: not proved. {said.read_text()}")
        states = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        if all(f"TracerPid:\t{tracer.pid}" in state for state in states):
            return tracer
        time.sleep(0.02)
    raise AssertionError("strace did not attach")


def answers_without_a_sync(calls: Sequence[str]) -> tuple[int, int]:
    """Return how many 2xx answers to posts there are, and how many came without a sync since the request."""
    answers = unsynced = 0
    is_synced = False
    for call in calls:
        if '"POST /v1/' in call:
            is_synced = False
        elif SYNC.search(call):
            is_synced = True
        elif '"HTTP/1.1 20' in call and "<unfinished" not in call.split('"HTTP')[0]:
            answers += 1
            unsynced += not is_synced
    return answers, unsynced
