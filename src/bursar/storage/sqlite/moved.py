"""The note in a data directory whose ledger goes on elsewhere: no server counts here by mistake.

A file for people, `MOVED`: its text says where the ledger went, and that deleting it takes the
directory back into use.
"""

from pathlib import Path

from bursar.core.errors import Conflict

MOVED_NAME = "MOVED"


def note_moved(data_dir: Path, sentence: str) -> None:
    """Leave the note: `sentence` says where the ledger went, or is going."""
    hint = f"Delete this file ({MOVED_NAME}) to use the ledger in this directory again."
    (data_dir / MOVED_NAME).write_text(f"{sentence}\n{hint}\n", encoding="utf-8")


def refuse_moved(data_dir: Path) -> None:
    """Refuse a directory with such a note.

    Raises:
        Conflict: There is one; the sentence is its own.
    """
    path = data_dir / MOVED_NAME
    if path.exists():
        sentence = path.read_text(encoding="utf-8").partition("\n")[0]
        raise Conflict(f"{sentence} To use {data_dir} again all the same, delete {path}.")
