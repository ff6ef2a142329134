"""The same logs read by ccusage 17, figure by figure.

Runs where `BURSAR_TEST_CCUSAGE` names a folder whose `node_modules` holds ccusage 17.2.1.
What it counts differently on purpose is worked out by the generator of the logs, from
what it meant to write, and is explained in docs/importing.md.
"""

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from claude_logs import ASIDE, FIRST_SNAPSHOT, NO_REQUEST_ID, Counts, DayModel, LogFolder

from bursar.capture.claude_code import ClaudeCodeOptions, find_logs, read_logs
from bursar.capture.reading import Tally
from bursar.core.time import text_from_micros


@pytest.fixture
def ccusage() -> Path:
    folder = os.environ.get("BURSAR_TEST_CCUSAGE", "")
    program = Path(folder, "node_modules", "ccusage", "dist", "index.js")
    if folder and program.is_file():
        return program
    message = "set BURSAR_TEST_CCUSAGE to a folder where `npm install ccusage@17.2.1` was run"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def figures_of_ccusage(program: Path, folder: Path) -> dict[DayModel, Counts]:
    answer = subprocess.run(
        ["node", str(program), "daily", "--json", "--offline", "--breakdown", "--timezone", "UTC"],
        env={"CLAUDE_CONFIG_DIR": str(folder), "PATH": os.environ["PATH"], "HOME": str(folder), "TZ": "UTC"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    found = {}
    for day in json.loads(answer.stdout)["daily"]:
        for row in day["modelBreakdowns"]:
            names = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
            found[day["date"], row["modelName"]] = Counts(*(row[name] for name in names))
    return found


def our_figures(folder: Path) -> dict[DayModel, Counts]:
    tally = Tally()
    newest = {}
    for event in read_logs(find_logs([folder], tally), ClaudeCodeOptions(), tally):
        newest[event.key] = event
    found: dict[DayModel, Counts] = defaultdict(Counts)
    for event in newest.values():
        write = event.cache_write_5m_tokens + event.cache_write_1h_tokens
        counts = Counts(event.input_tokens, event.output_tokens, write, event.cache_read_tokens)
        key = (text_from_micros(event.occurred_at)[:10], event.subject.model)
        found[key] = found[key].plus(counts)
    return dict(found)


@pytest.mark.parametrize("seed", [1, 2])
def test_our_figures_are_those_of_ccusage_but_for_the_explained_differences(
    tmp_path: Path, ccusage: Path, seed: int
) -> None:
    expected = LogFolder(tmp_path, seed).build()
    theirs = figures_of_ccusage(ccusage, tmp_path)
    assert set(expected.ccusage_differs) == {FIRST_SNAPSHOT, NO_REQUEST_ID, ASIDE}
    for by_day_model in expected.ccusage_differs.values():
        for key, counts in by_day_model.items():
            theirs[key] = theirs[key].plus(counts)
    assert our_figures(tmp_path) == theirs


def test_without_growing_answers_and_side_questions_the_figures_are_the_same(
    tmp_path: Path, ccusage: Path
) -> None:
    folder = LogFolder(tmp_path)
    lines, session = folder.session("/home/ada/shop", 30)
    finals = [line for line in lines if '"assistant"' not in line or is_last_of_answer(line, lines)]
    folder.write("-home-ada-shop", f"{session}.jsonl", [*finals])
    folder.write("-home-ada-shop", "resumed.jsonl", [*folder.repeat(finals, "resumed")])
    ours = our_figures(tmp_path)
    assert len(ours) >= 3
    assert ours == figures_of_ccusage(ccusage, tmp_path)


def is_last_of_answer(line: str, lines: list[str]) -> bool:
    return line == [other for other in lines if message_id(other) == message_id(line)][-1]


def message_id(line: str) -> object:
    message = json.loads(line).get("message")
    return message.get("id") if message else None
