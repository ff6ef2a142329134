"""Load from a compiled generator (wrk), whose own share of the CPU is measured as well.

Bodies are made beforehand. A batch is sent once: running out of them fails the run, so
that no figure is made of duplicates.
"""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from quiet import busy_s
from server import Server

_REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.stdout:write(string.format('RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_BATCHES = """
local number, last = {first} - 1, {last}
request = function()
  number = number + 1
  if number > last then return wrk.format("GET", "/out-of-bodies") end
  local file = io.open(string.format("{folder}/%05d", number), "rb")
  local body = file:read("*a")
  file:close()
  return wrk.format("POST", "/v1/ingest", {{["Authorization"] = "Bearer {key}",
    ["Content-Type"] = "application/json", ["Content-Encoding"] = "gzip"}}, body)
end
"""
_SINGLES = """
local heads, tails = {{}}, {{}}
for line in io.lines("{templates}") do
  local head, tail = line:match("^(.-)@KEY@(.*)$")
  heads[#heads + 1], tails[#tails + 1] = head, tail
end
local number = 0
local headers = {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}}
request = function()
  number = number + 1
  local pick = number % #heads + 1
  local id = string.format("{prefix}-7000-8000-%012x", number)
  return wrk.format("POST", "/v1/ingest", headers, heads[pick] .. id .. tails[pick])
end
"""


class Load(NamedTuple):
    """What wrk saw, and what it and the server used meanwhile."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    generator_share: float
    server_cpu_s: float
    neighbours: float

    @property
    def rate(self) -> float:
        """Requests answered in a second."""
        return self.requests / self.seconds


def send_batches(
    server: Server, folder: Path, key: str, bodies: range, *, seconds: float, may_fail: bool = False
) -> Load:
    """Post the numbered bodies, each once, for `seconds`, over 8 connections."""
    script = _BATCHES.format(first=bodies.start, last=bodies.stop - 1, folder=folder, key=key)
    path = folder.with_suffix(".lua")
    return run_wrk(server, script, path, seconds=seconds, connections=8, may_fail=may_fail)


def send_singles(
    server: Server, templates: Path, key: str, *, take: int, seconds: float, connections: int = 32
) -> Load:
    """Post single events made of `templates`' lines, each with a key of its own.

    `take` tells this call's keys from those of other calls on the same ledger; a higher
    one gives later keys.
    """
    prefix = f"{0x019A0000 + take:08x}-0000"
    script = _SINGLES.format(templates=templates, key=key, prefix=prefix)
    return run_wrk(server, script, templates.with_suffix(".lua"), seconds=seconds, connections=connections)


def run_wrk(
    server: Server,
    script: str,
    path: Path,
    *,
    seconds: float,
    connections: int,
    may_fail: bool = False,
) -> Load:
    """Run wrk with one thread; any answer but 2xx fails the run unless it `may_fail`."""
    path.write_text(script + _REPORT)
    options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(path)]
    busy, before, begin = busy_s(), _cpu_s(server), time.perf_counter()
    process = subprocess.Popen(["wrk", *options, server.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, used, busy = time.perf_counter() - begin, _cpu_s(server) - before, busy_s() - busy
    generator = usage.ru_utime + usage.ru_stime
    assert process.returncode == 0, text
    seen = json.loads(text.rpartition("RESULT ")[2])
    assert may_fail or seen["errors"] == 0, f"{seen['errors']} requests failed: {text}"
    return Load(
        seen["requests"],
        seen["micros"] / 1e6,
        seen["p50"] / 1e3,
        seen["p99"] / 1e3,
        generator / wall,
        used,
        max(busy - used - generator, 0.0) / wall,
    )


def _cpu_s(server: Server) -> float:
    """Return the server's CPU seconds, 0 when it is gone."""
    return server.cpu_s() if server.process.poll() is None else 0.0
