"""The documentation agrees with itself and with the command line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
IMAGES_MADE_LATER = {"docs/images/report.png"}


def targets(page: Path) -> Iterator[str]:
    """Relative link targets of a page, without the part after `#`."""
    for target in LINK.findall(CODE_FENCE.sub("", page.read_text(encoding="utf-8"))):
        path = target.partition("#")[0]
        if path and "://" not in path and not path.startswith("mailto:"):
            yield path


def anchors(page: Path) -> set[str]:
    """The fragment of each heading, as a forge makes it: lower case, words joined by dashes."""
    headings = re.findall(r"^#+ (.+)$", CODE_FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in PAGES
        for target in targets(page)
        if not (page.parent / target).exists()
        and (page.parent / target).resolve().relative_to(ROOT).as_posix() not in IMAGES_MADE_LATER
    ]
    assert broken == []


def test_every_fragment_names_a_heading() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in PAGES
        for target in LINK.findall(CODE_FENCE.sub("", page.read_text(encoding="utf-8")))
        if "#" in target and "://" not in target
        for path, _, fragment in [target.partition("#")]
        if fragment not in anchors((page.parent / path) if path else page)
    ]
    assert broken == []


def test_every_page_is_linked_from_the_index_of_its_folder_or_above() -> None:
    indexes = list(DOCS.rglob("README.md"))
    linked = {(index.parent / target).resolve() for index in indexes for target in targets(index)}
    pages = {page for page in DOCS.rglob("*.md") if page != DOCS / "README.md"}
    assert sorted(page.relative_to(ROOT).as_posix() for page in pages - linked) == []


def command_paths(command: object, path: str = "bursar") -> Iterator[str]:
    """Each command that can be called, as it is typed: `bursar keys create`."""
    children: dict[str, object] = getattr(command, "commands", {})
    if not children:
        yield path
    for name, child in children.items():
        yield from command_paths(child, f"{path} {name}")


def test_every_command_has_its_place_in_the_documentation() -> None:
    typer_main = pytest.importorskip("typer.main")
    app = pytest.importorskip("bursar.cli.main").app
    text = re.sub(r"\s+", " ", " ".join(page.read_text(encoding="utf-8") for page in PAGES))
    commands = list(command_paths(typer_main.get_command(app)))
    assert [command for command in commands if not re.search(rf"{command}\b", text)] == []
