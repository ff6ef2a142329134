"""What a server prints when it listens: an address, and on the first run how to begin."""

import os
import shutil
import sys
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import bursar
from bursar.core.addresses import without_password
from bursar.settings import Settings

_OWNER_LINE = "Nobody owns the organisation yet. Become its owner (this link works once, for a day):"


class Start(NamedTuple):
    """What is to be told.

    Attributes:
        first_key: Of an organisation that was just made; None when there was one.
        owner_link: For an organisation without an owner, else None.
    """

    url: str
    first_key: str | None
    owner_link: str | None


def greeting(settings: Settings, start: Start) -> str:
    """Return the lines to print."""
    if start.first_key is None:
        line = f"Bursar {bursar.__version__} serves on {start.url} (data in {place_of(settings)})"
        return line if start.owner_link is None else f"{line}\n{_OWNER_LINE}\n  {start.owner_link}"
    event = (
        '{"events":[{"agent_name":"my-agent","provider":"openai","model":"gpt-4o","input_tokens":1500,'
        '"output_tokens":800,"cost":0,"timestamp":"\'"$(date -u +%FT%TZ)"\'"}]}'
    )
    curl = (
        f"curl -sS {start.url}/v1/ingest -H 'Authorization: Bearer {start.first_key}'"
        f" -H 'Content-Type: application/json' -d '{event}'"
    )
    return "\n".join(
        [
            f"Bursar {bursar.__version__}",
            f"  API   {start.url}",
            f"  data  {place_of(settings)}",
            "",
            f"First run: made the organisation {settings.org!r}. Its ingest key, shown only now:",
            "",
            f"  {start.first_key}",
            "",
            "Record a first event:",
            "",
            f"  {curl}",
            "",
            "See what it cost:",
            "",
            f"  {_program()} report --data-dir {quote(str(settings.data_dir))}",
            *([] if start.owner_link is None else ["", _OWNER_LINE, "", f"  {start.owner_link}"]),
        ]
    )


def place_of(settings: Settings) -> str:
    """Return where the ledger is, without a password."""
    return without_password(settings.database_url) or str(settings.data_dir.resolve())


def _program() -> str:
    """Return how this program was called, so that a printed command can be pasted."""
    called = sys.argv[0]
    if shutil.which("bursar") == called or not Path(called).name.startswith("bursar"):
        return "bursar"
    return quote(os.path.relpath(called) if Path(called).is_relative_to(Path.cwd()) else called)
