"""What a fresh machine installs is what the project asks for, and the Makefile says what it can do."""

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


def make(*arguments: str) -> str:
    done = subprocess.run(["make", "-s", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


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


def test_make_run_listens_on_loopback_unless_told_otherwise() -> None:
    plain, told = make("-n", "run"), make("-n", "run", "HOST=0.0.0.0", "PORT=9000", "DATA=/tmp/elsewhere")
    assert '--host "127.0.0.1" --port "8317" --data-dir "data"' in plain
    assert '--host "0.0.0.0" --port "9000" --data-dir "/tmp/elsewhere"' in told
