"""The documentation and the command line agree: every command is described, every described one exists."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
import typer
from typer.main import get_command

from bursar.cli.main import app

ROOT = Path(__file__).parents[2]
TEXTS = [page.read_text(encoding="utf-8") for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"(?:^|[\s/(])bursar ([a-z][^|;&>#\n]*)")


class Parameter(Protocol):
    """One option or argument: how it may be spelled."""

    opts: list[str]
    secondary_opts: list[str]


class Command(Protocol):
    """What the command-line library knows of one command; a group has `commands` as well."""

    hidden: bool

    @property
    def params(self) -> Sequence[Parameter]: ...


def children(command: Command) -> dict[str, Command]:
    found: dict[str, Command] = getattr(command, "commands", {})
    return {name: child for name, child in found.items() if not child.hidden}


def leaves(command: Command, path: str = "") -> Iterator[str]:
    """Each command that can be called, as it is typed: `keys create`."""
    if not children(command):
        yield path.strip()
    for name, child in children(command).items():
        yield from leaves(child, f"{path} {name}")


def calls(text: str) -> Iterator[str]:
    """What follows `bursar` in the code of a page, one call each, continued lines joined."""
    code = [*SHELL.findall(text), *SPAN.findall(FENCE.sub("", text))]
    for block in code:
        yield from CALL.findall(block.replace("\\\n", " "))


def wrong_in(call: str, root: Command) -> str | None:
    """The first word of a call that the command line would not take, None when all is well."""
    command = root
    for word in call.split():
        if word.startswith("-"):
            known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
            if word.partition("=")[0] not in known | {"--help"}:
                return word
        elif children(command):
            if word not in children(command):
                return word
            command = children(command)[word]
    return None


def missing_from(text: str, root: Command) -> list[str]:
    return [path for path in leaves(root) if not re.search(rf"bursar {path}\b", text)]


@pytest.fixture
def sample() -> Command:
    program, keys = typer.Typer(), typer.Typer()
    program.add_typer(keys, name="keys")

    @keys.command()
    def create(scope: str = "ingest") -> None: ...

    @program.command()
    def report(by: str = "model") -> None: ...

    return get_command(program)


def test_a_command_nobody_describes_is_seen(sample: Command) -> None:
    assert missing_from("Make keys with `bursar keys create`.", sample) == ["report"]


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("keys create --scope read", None),
        ("report --by=model", None),
        ("report --buy model", "--buy"),
        ("keys destroy", "destroy"),
        ("repot", "repot"),
    ],
)
def test_a_call_that_would_fail_is_seen(call: str, wrong: str | None, sample: Command) -> None:
    assert wrong_in(call, sample) == wrong


def test_calls_are_found_in_code_only() -> None:
    text = (
        "So bursar reports.\n```sh\n.venv/bin/bursar report \\\n  --by model | less\n```\nor `bursar init`."
    )
    assert [call.split() for call in calls(text)] == [["report", "--by", "model"], ["init"]]


def test_every_command_is_described() -> None:
    assert missing_from(re.sub(r"\s+", " ", " ".join(TEXTS)), get_command(app)) == []


def test_every_call_in_the_documentation_would_be_taken() -> None:
    root = get_command(app)
    found = [call for text in TEXTS for call in calls(text)]
    wrong = {call: wrong_in(call, root) for call in found}
    assert {call: word for call, word in wrong.items() if word} == {}
