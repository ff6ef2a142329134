"""The documentation agrees with itself: links lead somewhere, every page is found from the index."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and fragment of each link of a page that stays inside the tree."""
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, fragment = target.partition("#")
        if "://" not in target and not target.startswith("mailto:"):
            yield (page.parent / path).resolve() if path else page, fragment


def fragments(page: Path) -> set[str]:
    """The fragment of each heading, as a forge makes it: lower case, words joined by dashes."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(pages: set[Path]) -> list[str]:
    return sorted(page.relative_to(ROOT).as_posix() for page in pages)


def test_every_relative_link_leads_to_a_file() -> None:
    found = {target for page in PAGES for target, _ in links(page)}
    assert ROOT / "LICENSE" in found
    assert not names({target for target in found if not target.exists()})


def test_every_fragment_names_a_heading() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target.name}#{fragment}"
        for page in PAGES
        for target, fragment in links(page)
        if fragment and fragment not in fragments(target)
    ]
    assert broken == []


def test_every_page_is_linked_from_an_index() -> None:
    linked = {target for index in DOCS.rglob("README.md") for target, _ in links(index)}
    assert names({page for page in DOCS.rglob("*.md") if page != DOCS / "README.md"} - linked) == []
