"""What a fresh machine installs is what the project asks for, and the Makefile says what it can do."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)


def pins() -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [
        Requirement(line)
        for line in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"])
    ]


def make(*arguments: str, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], **variables}
    command = ["make", "-s", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_every_dependency_is_pinned_at_a_version_the_project_accepts() -> None:
    pinned = pins()
    wrong = [str(want) for want in asked_for() if not want.specifier.contains(pinned.get(want.name, "0"))]
    assert wrong == [], "run `make lock`"


def test_every_pin_carries_a_hash() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(encoding="utf-8").strip())
    assert len(blocks) == len(pins())
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_make_alone_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    listed = re.findall(r"^  make ([a-z-]+) +\S", make(), re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


def test_make_run_leaves_the_defaults_to_the_server() -> None:
    assert "bursar serve" in make("-n", "run")
    assert "--" not in make("-n", "run", HOST="set-by-a-shell")


def test_make_run_passes_on_what_it_is_told() -> None:
    told = make("-n", "run", "HOST=0.0.0.0", "PORT=9000", "DATA=/tmp/elsewhere")
    assert 'serve --host "0.0.0.0" --port "9000" --data-dir "/tmp/elsewhere"' in told
