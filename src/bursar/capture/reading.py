"""Read big files line by line, bounded, and keep count of what was read and refused.

Used by every importer that reads files. A line is bytes without its end; a line beyond
the bound is skipped without being held in memory. What went wrong is counted in a
`Tally` that the caller prints; nothing in a file can stop an import.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Longest line taken; a logged answer with pasted images reaches about 20 MB."""

PROBLEMS_KEPT_MAX = 100
"""Problems whose text is kept; all are counted."""

_PROGRESS_STEP_BYTES = 1024 * 1024

OnProgress = Callable[[int, int], None]
"""Called with bytes read so far and bytes in all, about once a megabyte and at the end."""


class Problem(NamedTuple):
    """One thing that could not be imported: where, and what to do about it.

    `line` counts from 1 and is 0 when the whole file is meant; `column` is empty when the
    whole line is meant.
    """

    path: str
    line: int
    message: str
    column: str = ""

    def __str__(self) -> str:
        """Return one line of text such as `trace.csv:17: ContextTokens: must be …`."""
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.column}: {self.message}" if self.column else f"{place}: {self.message}"


@dataclass(slots=True)
class Tally:
    """What one import read, gave and refused; the counters only grow.

    Attributes:
        files: Files opened.
        lines: Lines with something on them; a table's header is none.
        events: Distinct calls found, each counted once however often it was given.
        tokens: All tokens of those calls, in their newest version.
        revised: Calls given again with larger counts than before.
        repeated: Lines or rows that repeat a call already given (resumed sessions).
        no_call: Lines that look like an answer and are no call (`<synthetic>`).
        api_errors: Answers that only say that the call failed, without usage of a model.
        unfinished: Last lines still being written, left for the next import.
        refused: Lines or rows with a fault; the first ones stand in `problems`.
        skipped_files: Files left out on purpose.
    """

    files: int = 0
    lines: int = 0
    events: int = 0
    tokens: int = 0
    revised: int = 0
    repeated: int = 0
    no_call: int = 0
    api_errors: int = 0
    unfinished: int = 0
    refused: int = 0
    skipped_files: int = 0
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, problem: Problem) -> None:
        """Count a fault and keep its text while there is room."""
        self.refused += 1
        if len(self.problems) < PROBLEMS_KEPT_MAX:
            self.problems.append(problem)


class Line(NamedTuple):
    """One line: its number from 1, its bytes without the end, and whether it has an end.

    `content` is None when the line was longer than the bound and was skipped.
    """

    number: int
    content: bytes | None
    is_ended: bool


class Meter:
    """Adds up bytes over several files and tells a progress bar now and then."""

    def __init__(self, bytes_total: int, on_progress: OnProgress | None = None) -> None:
        self._total = bytes_total
        self._done = 0
        self._told = 0
        self._on_progress = on_progress

    def add(self, count: int) -> None:
        """Count `count` more bytes as read."""
        self._done += count
        if self._done - self._told >= _PROGRESS_STEP_BYTES:
            self._tell()

    def finish(self) -> None:
        """Tell the bar once more, so that it ends where it should."""
        self._tell()

    def _tell(self) -> None:
        self._told = self._done
        if self._on_progress is not None:
            # A log may grow while it is read; a bar must not pass its end.
            self._on_progress(self._done, max(self._total, self._done))


def read_lines(file: BinaryIO, meter: Meter, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[Line]:
    """Yield the lines of `file` from where it stands, never holding more than one.

    Ends are LF or CRLF. Empty lines are yielded too, so that numbers stay true.
    """
    number = 0
    while raw := file.readline(line_bytes_max):
        number += 1
        meter.add(len(raw))
        if raw.endswith(b"\n"):
            yield Line(number, raw[:-1].removesuffix(b"\r"), is_ended=True)
        elif len(raw) < line_bytes_max:
            yield Line(number, raw, is_ended=False)
        else:
            yield Line(number, None, is_ended=_skip_to_end(file, meter, line_bytes_max))


def _skip_to_end(file: BinaryIO, meter: Meter, step: int) -> bool:
    while raw := file.readline(step):
        meter.add(len(raw))
        if raw.endswith(b"\n"):
            return True
    return False


def size_of(path: Path) -> int:
    """Return the size in bytes, 0 when the file is gone or may not be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
