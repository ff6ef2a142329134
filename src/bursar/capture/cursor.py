"""Remember which files an import has read, so that the next one can skip them.

Only a saving of work: events carry keys that make a second import harmless, so a lost or
wrong cursor costs time and never a figure. A changed file is read again from its start,
because a later line may belong to an answer whose first line stands far above.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

HEAD_BYTES = 4096
"""Bytes at a file's start whose hash tells a replaced file from a grown one."""

MARKS_MAX = 100_000
"""Files one cursor remembers; the ones read longest ago go first."""


class FileMark(msgspec.Struct, frozen=True, kw_only=True):
    """What a file looked like when it was read.

    Attributes:
        size: Bytes, as the file system said before reading.
        mtime_ns: Time of the last change, nanoseconds since 1970.
        inode: The file's number; 0 where there is none.
        offset: Bytes read of it; `size` unless it was being written.
        head: Hex BLAKE2b of its first 4 KiB.
    """

    size: int
    mtime_ns: int
    inode: int
    offset: int
    head: str


class ImportCursor(msgspec.Struct, frozen=True):
    """The marks of one source (`claude_code`, or a table with its mapping), by path.

    `settings` is a text over everything that decides what an event looks like (agent,
    mapping, …): under other settings the files count as unread.
    """

    settings: str = ""
    marks: Mapping[str, FileMark] = {}

    @classmethod
    def from_bytes(cls, raw: bytes | None) -> "ImportCursor":
        """Return the cursor stored as `raw`; an unreadable one is an empty one."""
        if raw is None:
            return cls()
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return cls()

    def to_bytes(self) -> bytes:
        """Return the stored form, JSON in UTF-8."""
        return msgspec.json.encode(self)

    def unread(self, paths: Iterable[Path], settings: str = "") -> list[Path]:
        """Return those of `paths` that are new or changed since they were marked, in order."""
        if settings != self.settings:
            return list(paths)
        return [path for path in paths if not self._is_read(path)]

    def with_read(self, marks: Mapping[str, FileMark], settings: str = "") -> "ImportCursor":
        """Return a cursor that remembers `marks` too, and forgets those of other settings."""
        old = self.marks if settings == self.settings else {}
        kept = {path: mark for path, mark in old.items() if path not in marks} | dict(marks)
        return ImportCursor(settings, dict(list(kept.items())[-MARKS_MAX:]))

    def _is_read(self, path: Path) -> bool:
        mark = self.marks.get(identity(path))
        return mark is not None and mark == mark_of(path, offset=mark.offset)


def identity(path: Path) -> str:
    """Return the name under which a file is remembered: absolute, links resolved, valid UTF-8."""
    return os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")


def mark_of(path: Path, *, offset: int | None = None) -> FileMark | None:
    """Return the mark of a file as it is now, None when it cannot be read.

    Take it before reading the file: what is appended meanwhile then counts as unread.
    `offset` is the file's size unless given.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = hashlib.blake2b(file.read(HEAD_BYTES), digest_size=16).hexdigest()
    except OSError:
        return None
    return FileMark(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        offset=status.st_size if offset is None else offset,
        head=head,
    )
