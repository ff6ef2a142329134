"""Files that appear whole or not at all: written under another name, synced, then given theirs."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bursar.core.errors import Conflict, InvalidInput, StorageFull

PARTIAL = ".partial"
"""Ends the name of a file that is being written; only a killed process leaves one behind."""

_BESIDE = ("", "-journal", "-wal", "-shm")
_WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give the name to write under; `path` appears, mode 0600, when the inside ends without an error.

    Raises:
        Conflict: `path` is there already, or appeared meanwhile.
        InvalidInput: Its directory is not there.
        StorageFull: The disk does not take it.
    """
    refuse_existing(path)
    if not path.parent.is_dir():
        raise InvalidInput(f"{path.parent} is no directory")
    draft = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with _told(path):
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        try:
            yield draft
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _FULL:
                raise StorageFull(f"{path} cannot be written: {error}") from error
            raise
        with _told(path):
            _sync(draft)
            _name(draft, path)
            _sync(path.parent)
    finally:
        for end in _BESIDE:
            draft.with_name(f"{draft.name}{end}").unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Refuse to write over a file.

    Raises:
        Conflict: There is one.
    """
    if path.exists() or path.is_symlink():
        raise Conflict(f"{path} is there already; nothing is overwritten")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(f"{path} cannot be written: {error.strerror or error}") from error


def _name(draft: Path, path: Path) -> None:
    """Give `draft` its name, unless something has that name by now."""
    try:
        os.link(draft, path)
    except FileExistsError:
        refuse_existing(path)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
    else:
        return
    # A file system without links; what is left is a moment between the look and the name.
    refuse_existing(path)
    draft.rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
