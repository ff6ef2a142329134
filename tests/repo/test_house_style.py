"""The house style's numbers, read from the syntax tree: sizes, docstrings, types, words."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
PUBLIC_DOCUMENTED_MIN = 0.90
MODULES = sorted(
    path
    for folder in (ROOT / "src", ROOT / "sdk/src")
    for path in folder.rglob("*.py")
    if "migrations/versions" not in path.as_posix()
)
PROSE_AND_CODE = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        ROOT / "Makefile",
        ROOT / "requirements.lock",
        *(
            path
            for name in ("src", "sdk", "docs", "bench", "deploy", "tests", ".ci")
            for path in (ROOT / name).rglob("*")
        ),
    )
    if path.suffix in {"", ".md", ".py", ".toml", ".lock", ".yaml", ".yml", ".json", ".sh"}
    and path.is_file()
    and "bench/data" not in path.as_posix()
)
REGISTRIES = re.compile(
    "|".join(map(re.escape, ("pypi" + ".org", "python" + "hosted", "npmjs" + ".", "crates" + ".io")))
)
OPEN_END = re.compile(r"\b(TODO|FIXME|XXX)\b(?! \(#\d+\))")
FOR_NOW = re.compile(r"\btemporarily\b", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path, node: Function | None = None) -> str:
    place = path.relative_to(ROOT).as_posix()
    return place if node is None else f"{place}:{node.lineno} {node.name}"


def functions() -> Iterator[tuple[Path, Function]]:
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Functions and methods a caller may use; nested ones and those of private classes are not."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def untyped(node: Function) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    rest = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
    bare = [a for a in (*arguments, *rest) if a.annotation is None and a.arg not in {"self", "cls", "mcs"}]
    return bool(bare) or node.returns is None


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{name_of(path)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_tree_is_found() -> None:
    assert {"src/bursar/core/money.py", "sdk/src/bursar_sdk/__init__.py"} <= {
        name_of(path) for path in MODULES
    }
    assert {"README.md", ".ci/run", "docs/README.md"} <= {name_of(path) for path in PROSE_AND_CODE}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {name_of(path, node): (node.end_lineno or 0) - node.lineno + 1 for path, node in functions()}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_no_module_is_longer_than_its_bound() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_every_module_says_its_place() -> None:
    assert [name_of(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_public_functions_are_documented() -> None:
    public = [(path, node) for path in MODULES for node in public_functions(tree(path).body)]
    bare = [name_of(path, node) for path, node in public if not ast.get_docstring(node)]
    assert len(bare) <= (1 - PUBLIC_DOCUMENTED_MIN) * len(public), bare


def test_every_function_is_fully_typed() -> None:
    assert [name_of(path, node) for path, node in functions() if untyped(node)] == []


@pytest.mark.parametrize("line", ["# TODO: later", "# FIXME", "# TODO (soon): x"])
def test_an_open_end_without_an_issue_is_seen(line: str) -> None:
    assert OPEN_END.search(line)
    assert not OPEN_END.search("# TODO (#12): say what")


def test_every_open_end_names_its_issue() -> None:
    elsewhere = [path for path in PROSE_AND_CODE if "tests/repo" not in path.as_posix()]
    assert lines_with(OPEN_END, elsewhere) == []


def test_nothing_is_said_to_be_for_now() -> None:
    elsewhere = [path for path in PROSE_AND_CODE if "tests/repo" not in path.as_posix()]
    assert lines_with(FOR_NOW, elsewhere) == []


def test_no_registry_address_stands_anywhere() -> None:
    assert lines_with(REGISTRIES, PROSE_AND_CODE) == []
