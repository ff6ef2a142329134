"""Rules of the house that lint cannot know: where SQL may stand, what an import or a test may do."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/bursar"
MODULES = {path.relative_to(ROOT / "src").as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
DATABASES = {"sqlite3", "sqlalchemy", "alembic", "asyncpg", "psycopg", "clickhouse_connect", "duckdb"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
SQL = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\s", re.DOTALL
)
PATCHING = re.compile(r"unittest\.mock|MagicMock|\bmocker\b|monkeypatch\.(setattr|delattr|setitem)")
MIGRATIONS = "bursar/storage/migrations"
WATCHED_IMPORT = """
import sys
touched = []
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    cached = event == "open" and "__pycache__" in str(arguments[0])
    effects = {"socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen"}
    if (writes and not cached) or event in effects:
        touched.append((event, str(arguments[0])))
sys.addaudithook(watch)
for name in sys.argv[1:]:
    __import__(name)
import threading
extra = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
sys.exit(f"{touched} {extra}" if touched or extra else 0)
"""


def imported(tree: ast.Module) -> Iterator[str]:
    """The root package of each import, whole names beside them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_databases_are_known_to_storage_alone() -> None:
    outside = {name: path for name, path in MODULES.items() if not name.startswith("bursar/storage/")}
    assert len(outside) < len(MODULES)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in outside.items()}
    assert [name for name, tree in trees.items() if DATABASES & set(imported(tree))] == []
    assert [name for name, tree in trees.items() if any(map(SQL.match, texts(tree)))] == []


def test_no_module_is_a_drawer() -> None:
    assert [name for name in MODULES if DRAWERS & set(name.removesuffix(".py").split("/"))] == []


def test_money_is_never_a_float() -> None:
    floats = re.compile(r"\b\w*nusd\w*\s*:\s*float\b|\bdef \w*nusd\w*\([^)]*\)\s*->\s*float\b")
    assert [name for name, path in MODULES.items() if floats.search(path.read_text(encoding="utf-8"))] == []


def test_every_migration_says_whether_it_runs_before_or_after_the_new_code() -> None:
    steps = {name: path for name, path in MODULES.items() if name.startswith(f"{MIGRATIONS}/versions/0")}
    assert steps
    docs = {
        name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in steps.items()
    }
    assert [name for name, doc in docs.items() if not re.match(r"(pre|post): ", doc or "")] == []


def test_importing_has_no_effect() -> None:
    ours = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in MODULES
        if not name.startswith(MIGRATIONS) and not name.endswith("__main__.py")
    ]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_IMPORT, *ours], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_tests_use_the_real_thing() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.parent != Path(__file__).parent]
    assert [str(path) for path in tests if PATCHING.search(path.read_text(encoding="utf-8"))] == []
