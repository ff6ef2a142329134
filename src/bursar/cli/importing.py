"""Read foreign files and send what they hold to the ledger: the work behind `bursar import`.

    find files → skip those the cursor knows → read (`capture`) → POST /v1/events → keep the cursor

Events go in batches. After each batch the files that were read to their end are remembered,
so an interrupted import goes on where it was; keys make a repetition harmless in any case.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from bursar.capture.cursor import FileMark, ImportCursor, identity, mark_of
from bursar.capture.native import encode_event
from bursar.capture.reading import OnProgress, Tally
from bursar.cli.connection import Connection
from bursar.cli.progress import progress
from bursar.core.money import nusd_from_text, text_from_nusd
from bursar.core.usage import UsageEvent

BATCH_EVENTS = 1_000
"""Events of one request, unless the server is set to take fewer."""

SAVE_EVERY_S = 2.0
"""How often at most the cursor is kept on the way: it is written whole each time."""

FAULTS_KEPT = 100

Read = Callable[[Sequence[Path], Tally, OnProgress | None], Iterator[UsageEvent]]
"""Reads files, in order, into events; counts in the tally; tells how far it has come."""


class Import(msgspec.Struct, frozen=True):
    """What to import: the source's name, its files, and how to read them.

    `settings` is a text over all that decides what an event looks like; under another one
    every file counts as unread.
    """

    source: str
    settings: str
    files: Sequence[Path]
    read: Read


class Files(msgspec.Struct):
    """How many files there were, were read, and were left out."""

    found: int
    read: int = 0
    unchanged: int = 0
    skipped: int = 0


class Summary(msgspec.Struct):
    """What one import did.

    Attributes:
        read: Lines or rows with something on them.
        calls: Distinct calls found in them.
        recorded: New calls, and known ones with larger counts; of a dry run, those that a
            ledger without them would record.
        duplicates: Calls that the ledger has already.
        conflicts: Calls whose key the ledger has with other figures; nothing was changed.
        skipped: Lines left out, by reason.
        tokens, cost_usd, unpriced: Of what was recorded.
        problems: The first faults, each with its place.
    """

    source: str
    dry_run: bool
    files: Files
    read: int = 0
    calls: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    skipped: dict[str, int] = {}
    tokens: int = 0
    cost_usd: str = "0.00"
    unpriced: int = 0
    problems: list[str] = []

    @property
    def is_in_vain(self) -> bool:
        """Whether nothing was taken although something was there to take."""
        faulty = self.skipped.get("faulty", 0) + self.conflicts
        return bool(faulty) and not self.recorded + self.duplicates


class _Fault(msgspec.Struct):
    index: int
    field: str
    message: str


class _Answer(msgspec.Struct):
    """The answer of POST /v1/events."""

    recorded: int
    duplicates: int
    conflicts: list[int]
    quarantined: list[int]
    rejected: list[_Fault]
    tokens: int
    cost_usd: str
    unpriced: int


class _Kept(msgspec.Struct):
    cursor: msgspec.Raw


class _Watched(list[Path]):
    """The files; `finished` tells how many of them the reader has gone through so far."""

    finished = 0

    def __iter__(self) -> Iterator[Path]:
        self.finished = 0
        for path in super().__iter__():
            yield path
            self.finished += 1


def run_import(
    wanted: Import, tally: Tally, connection: Connection, *, dry_run: bool, again: bool
) -> Summary:
    """Import and return what happened.

    Args:
        wanted: What to import and how.
        tally: May hold what finding the files counted already.
        connection: The way to the ledger.
        dry_run: Read and price, record nothing, remember nothing.
        again: Read files too that have not changed since the last import.
    """
    raw = connection.get(f"/v1/imports/cursors/{wanted.source}", kind=_Kept).cursor
    cursor = ImportCursor.from_bytes(bytes(raw))
    unread = list(wanted.files) if again else cursor.unread(wanted.files, wanted.settings)
    # Marks are taken before reading: what is appended meanwhile then counts as unread.
    marks = [mark_of(path) for path in unread]
    found = len(wanted.files) + tally.skipped_files
    summary = Summary(wanted.source, dry_run, Files(found, unchanged=len(wanted.files) - len(unread)))
    files = _Watched(unread)
    keeper = _Keeper(wanted, connection, cursor, list(zip(unread, marks, strict=True)), is_idle=dry_run)
    size = min(BATCH_EVENTS, connection.settings.batch_events_max)
    with progress("importing", in_bytes=True) as on_progress:
        events = wanted.read(files, tally, on_progress)
        while batch := list(islice(events, size)):
            finished = files.finished
            _add(summary, _send(connection, batch, dry_run=dry_run), batch)
            keeper.keep(finished)
    keeper.keep(len(unread), is_last=True)
    _conclude(summary, tally)
    return summary


class _Keeper:
    """Keeps the cursor up to date while files are read."""

    def __init__(
        self,
        wanted: Import,
        connection: Connection,
        cursor: ImportCursor,
        marks: Sequence[tuple[Path, FileMark | None]],
        *,
        is_idle: bool,
    ) -> None:
        self._wanted = wanted
        self._connection = connection
        self._cursor = cursor
        self._marks = marks
        self._kept = 0
        self._kept_at = time.monotonic()
        self._is_idle = is_idle

    def keep(self, finished: int, *, is_last: bool = False) -> None:
        """Remember the first `finished` files: their events are in the ledger."""
        is_due = is_last or time.monotonic() - self._kept_at >= SAVE_EVERY_S
        if self._is_idle or finished == self._kept or not is_due:
            return
        fresh = {
            identity(path): mark for path, mark in self._marks[self._kept : finished] if mark is not None
        }
        self._cursor = self._cursor.with_read(fresh, self._wanted.settings)
        body = msgspec.Raw(self._cursor.to_bytes())
        self._connection.call("PUT", f"/v1/imports/cursors/{self._wanted.source}", body=body, kind=type(None))
        self._kept, self._kept_at = finished, time.monotonic()


def _send(connection: Connection, batch: Sequence[UsageEvent], *, dry_run: bool) -> _Answer:
    body = {"events": [encode_event(event) for event in batch]}
    params = {"dry_run": "true"} if dry_run else None
    return connection.call("POST", "/v1/events", params=params, body=body, kind=_Answer)


def _add(summary: Summary, answer: _Answer, batch: Sequence[UsageEvent]) -> None:
    summary.recorded += answer.recorded
    summary.duplicates += answer.duplicates
    summary.conflicts += len(answer.conflicts)
    summary.tokens += answer.tokens
    summary.cost_usd = text_from_nusd(nusd_from_text(summary.cost_usd) + nusd_from_text(answer.cost_usd))
    summary.unpriced += answer.unpriced
    for index in answer.conflicts:
        _tell(summary, batch[index], "the ledger has this call with other figures; nothing was changed")
    for index in answer.quarantined:
        _count(summary, "set aside", 1)
        _tell(summary, batch[index], "a total would leave 64 bits; the call is kept aside")
    for fault in answer.rejected:
        _count(summary, "faulty", 1)
        _tell(summary, batch[fault.index], f"{fault.field}: {fault.message}")


def _tell(summary: Summary, event: UsageEvent, message: str) -> None:
    if len(summary.problems) < FAULTS_KEPT:
        summary.problems.append(f"call {event.key.hex()}: {message}")


def _count(summary: Summary, reason: str, count: int) -> None:
    if count:
        summary.skipped[reason] = summary.skipped.get(reason, 0) + count


def _conclude(summary: Summary, tally: Tally) -> None:
    """Add what reading counted to what recording counted."""
    summary.files.read = tally.files
    summary.files.skipped = tally.skipped_files
    summary.read = tally.lines
    summary.calls = tally.events
    reasons: Iterable[tuple[str, int]] = (
        ("faulty", tally.refused),
        ("repeats of a call in these files", tally.repeated),
        ("no call of a model", tally.no_call),
        ("failed calls without usage", tally.api_errors),
        ("still being written", tally.unfinished),
    )
    for reason, count in reasons:
        _count(summary, reason, count)
    summary.problems = [*map(str, tally.problems), *summary.problems][:FAULTS_KEPT]
