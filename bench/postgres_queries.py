"""What it takes to ask the largest organisation of a filled ledger something, on PostgreSQL.

The ledger on file is moved there by the product's own command and kept; the questions are those
asked of the file (`queries`), over HTTP. The database is asked as it is after a move: analysed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from filled import Filled, copied
from postgres_server import Databases
from queries import ask, questions
from quiet import wait
from results import Figure, Results, say
from server import serving

TARGET_MS = 100
"""For costs by model; the other questions have none here."""


def postgres_queries(work: Path, results: Results, databases: Databases, original: Filled) -> None:
    """Ask everything of the filled ledger in a database."""
    address = moved(work, databases, original)
    folder = work / "server"
    with serving(folder, database=address) as server:
        for question in questions(original.ends_at):
            wait()
            took, rows = ask(server, question.path, original.key)
            target = TARGET_MS if question.name == "costs by model, 30 days" else None
            notes: dict[str, float | str] = {"first": took.first, "slowest": took.slowest, "rows": rows}
            name = f"PostgreSQL: {question.name}, over HTTP"
            results.add(Figure(name, took.middle, "ms", target, at_least=False, notes=notes))
    shutil.rmtree(folder)


def moved(work: Path, databases: Databases, original: Filled) -> str:
    """Return the address of a database with the whole ledger, moved there when it is not yet."""
    keys = "" if original.ordered_keys else "_random"
    address = databases.kept(f"filled_{original.events}_{original.shape}{keys}")
    known = databases.ask(
        "SELECT 1 FROM pg_tables WHERE schemaname = 'bursar' AND tablename = 'event'",
        database=address.rpartition("/")[2],
    )
    if not known:
        say(f"moving {original.events:,} events to PostgreSQL")
        source = copied(original, work / "moving")
        program = str(Path(sys.executable).with_name("bursar"))
        command = [program, "move", "--from", f"sqlite:{source.folder}", "--to", address]
        subprocess.run(command, check=True)
        shutil.rmtree(source.folder)
        databases.ask("VACUUM ANALYZE", database=address.rpartition("/")[2])
    return address
