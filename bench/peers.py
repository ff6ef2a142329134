"""Measure other products on this machine, each in an environment of its own.

LiteLLM's proxy, one worker, answers chat completions with a mocked reply: it parses the
request, routes, computes the cost and answers, but reaches no provider and, having no
database, keeps nothing. Beside it, in alternation, Bursar records single events durably.
Both get the same load: wrk, 32 connections. Entry of `make bench-peers`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from statistics import median

from bursar.core.usage import Source, Subject, UsageEvent
from bursar.pricing.engine import PriceBook
from ingest import write_templates
from load import Load, run_wrk, send_singles
from quiet import quietest
from results import Figure, Results, machine, say
from server import free_port, prepare, running, serving

DATA = Path(__file__).parent / "data"
HOME = DATA / "peers"
UV = Path(__file__).parents[1] / ".tools/bin/uv"
MEASURED_SECONDS = 4.0
CONFIG = """model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: none
      mock_response: "recorded"
general_settings:
  master_key: sk-bench
"""
_CHAT = """
local headers = {["Authorization"] = "Bearer sk-bench", ["Content-Type"] = "application/json"}
local body = '{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
request = function() return wrk.format("POST", "/v1/chat/completions", headers, body) end
"""
# A thousand tokens at a time: a million would be a long context, which may have its own price.
ASKED = """
import json, litellm, sys
answers = {}
for model, provider in json.loads(sys.argv[1]).items():
    try:
        costs = litellm.cost_per_token(
            model=model, custom_llm_provider=provider, prompt_tokens=1_000, completion_tokens=1_000
        )
        answers[model] = [round(cost * 1_000, 6) for cost in costs]
    except Exception as error:
        answers[model] = type(error).__name__
print("ANSWERS" + json.dumps(answers))
"""
MODELS = {
    "claude-sonnet-4-0": "anthropic",
    "claude-sonnet-4-20250514": "anthropic",
    "claude-opus-4-1": "anthropic",
    "deepseek-chat": "deepseek",
    "mistral-large-latest": "mistral",
    "o3": "openai",
}
_ENVIRONMENT = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


def main() -> int:
    """Install, measure, compare; 0 unless nothing could be measured."""
    results = Results("peers")
    say(f"machine: {machine()}")
    python = _installed()
    if python is None:
        return 1
    asked = [str(python), "-c", "import importlib.metadata as m; print(m.version('litellm'))"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    say(f"LiteLLM {version.strip()}")
    work = Path(tempfile.mkdtemp(prefix="work-", dir=DATA))
    try:
        _requests(work, python.with_name("litellm"), results)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{_prices(python)}\n\n{results.table()}\n\nwritten to {results.write()}")
    return 0


def _installed() -> Path | None:
    """Return the Python of LiteLLM's environment, made when it is not there; None if that fails."""
    python = HOME / "env/bin/python"
    if python.with_name("litellm").exists():
        return python
    HOME.mkdir(parents=True, exist_ok=True)
    say("installing litellm[proxy]")
    try:
        subprocess.run([UV, "venv", "-q", "--python", sys.executable, HOME / "env"], check=True)
        subprocess.run([UV, "pip", "install", "-q", "--python", python, "litellm[proxy]"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"LiteLLM cannot be installed here, nothing is measured: {error}")
        return None
    return python


def _requests(work: Path, program: Path, results: Results) -> None:
    """Measure requests a second of one worker of each."""
    config = work / "config.yaml"
    config.write_text(CONFIG)
    templates = write_templates(work / "singles.txt")
    key = prepare(work / "ledger")
    port, takes = free_port(), count()
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    log = work / "litellm.log"
    with (
        running([*command, "--num_workers", "1"], port, log=log, environment=_ENVIRONMENT) as theirs,
        serving(work / "ledger") as ours,
    ):
        time.sleep(5)
        run_wrk(theirs, _CHAT, work / "chat.lua", seconds=1, connections=32)

        def take() -> tuple[Load, Load]:
            return (
                run_wrk(theirs, _CHAT, work / "chat.lua", seconds=MEASURED_SECONDS, connections=32),
                send_singles(ours, templates, key, take=next(takes), seconds=MEASURED_SECONDS),
            )

        rounds = quietest(take, 3)
        memory = {"LiteLLM MiB": theirs.rss_at_start_mib, "start s": theirs.first_answer_s}
    mocked = [one for one, _ in rounds]
    rate, recorded = (median(one.rate for one in runs) for runs in zip(*rounds, strict=True))
    notes: dict[str, float | str] = {
        "CPU µs": median(one.server_cpu_s / one.requests * 1e6 for one in mocked),
        "p50 ms": median(one.p50_ms for one in mocked),
        "p99 ms": median(one.p99_ms for one in mocked),
        **memory,
    }
    results.add(Figure("LiteLLM proxy, one worker, mocked completions", rate, "requests/s", notes=notes))
    results.add(Figure("Bursar, single events, durable", recorded, "requests/s"))
    results.add(Figure("Bursar to LiteLLM, one worker each", recorded / rate, "×"))


def _prices(python: Path) -> str:
    """Return a table: dollars for a million tokens in and out, by each of the two."""
    asked = [str(python), "-c", ASKED, json.dumps(MODELS)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True, env=_ENVIRONMENT)
    theirs = json.loads(answer.stdout.rpartition("ANSWERS")[2])
    lines = ["| model | LiteLLM, USD in / out per million | Bursar |", "|---|---|---|"]
    for model, provider in MODELS.items():
        said = theirs[model]
        text = said if isinstance(said, str) else f"{said[0]:g} / {said[1]:g}"
        lines.append(f"| {model} | {text} | {_ours(provider, model)} |")
    return "\n".join(lines)


def _ours(provider: str, model: str) -> str:
    book = PriceBook(())
    prices: list[str] = []
    for unit in ("input_tokens", "output_tokens"):
        event = UsageEvent(
            key=bytes(16),
            occurred_at=time.time_ns() // 1_000,
            subject=Subject("bench", provider, model),
            source=Source.NATIVE,
            input_tokens=1_000 if unit == "input_tokens" else 0,
            output_tokens=1_000 if unit == "output_tokens" else 0,
        )
        cost = book.price(event).computed_nusd
        prices.append("unknown" if cost is None else f"{cost / 1e6:g}")
    return " / ".join(prices)


if __name__ == "__main__":
    sys.exit(main())
