"""Read tables of calls, CSV or one JSON object a line, by a mapping of columns to fields.

    file, TableMapping  →  rows  →  UsageEvent, one a row  →  ingestion

A row rarely carries an id, and two calls may well look alike, so an event's key is made
of the mapping, the agent, the row's whole content and how often that content stood in
the file before. Reading a file again, or a longer version of it, gives the same keys.
A column with ids (`key_column`) makes keys independent of all that.

A faulty row is counted in the `Tally` with its line and column; the others are taken.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from bursar.capture import checks
from bursar.capture.mapping import ATTRIBUTE_PREFIX, INPUT_INCLUSIVE, OUTPUT_INCLUSIVE, TableMapping
from bursar.capture.reading import Meter, OnProgress, Problem, Tally, read_lines, size_of
from bursar.core.errors import InvalidInput
from bursar.core.ids import key_from_text
from bursar.core.usage import NO_TEXT, Billing, ServiceTier, Source, Subject, UsageEvent

ROW_BYTES_MAX = 4 * 1024 * 1024
"""Longest line of a table."""

KEY_LENGTH_MAX = 512
"""Characters of a caller's own key."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = (",", ";", "\t", "|")
_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}


class Row(NamedTuple):
    """One row: its first line, its cells by column, and the bytes that stand for its content."""

    line: int
    cells: Mapping[str, object]
    content: bytes


class _Fault(NamedTuple):
    """A row that could not be read, and why."""

    line: int
    message: str


def read_tables(
    paths: Sequence[Path],
    mapping: TableMapping,
    tally: Tally,
    on_progress: OnProgress | None = None,
) -> Iterator[UsageEvent]:
    """Yield one event for each good row of `paths`, in order.

    Files ending in .jsonl, .ndjson or .json hold one JSON object a line, all others CSV
    with a header line; its separator is the one of comma, semicolon, tab or bar that
    finds the mapped columns. Memory is about 100 bytes for each distinct row of a file.

    Raises:
        InvalidInput: A file lacks a mapped column or is not UTF-8 at all; the sentence
            names the columns it has.
    """
    meter = Meter(sum(size_of(path) for path in paths), on_progress)
    for path in paths:
        try:
            with path.open("rb") as file:
                tally.files += 1
                yield from _events(path, file, mapping, tally, meter)
        except OSError as error:
            tally.refuse(Problem(str(path), 0, f"cannot be read: {error.strerror}"))
    meter.finish()


def _events(
    path: Path, file: BinaryIO, mapping: TableMapping, tally: Tally, meter: Meter
) -> Iterator[UsageEvent]:
    is_json = path.suffix.lower() in _JSON_SUFFIXES
    rows = _json_rows(file, meter, tally) if is_json else _csv_rows(file, mapping, meter, str(path))
    seen: dict[bytes, int] = {}
    unseen_columns = set(mapping.columns_needed)
    for row in rows:
        tally.lines += 1
        if isinstance(row, _Fault):
            tally.refuse(Problem(str(path), row.line, row.message))
            continue
        unseen_columns -= {column for column in unseen_columns if _cell(row.cells, column) is not None}
        try:
            event = _event(row, mapping, seen)
        except InvalidInput as error:
            tally.refuse(Problem(str(path), row.line, error.detail, error.field or NO_TEXT))
            continue
        tally.events += 1
        tally.tokens += event.tokens_total
        yield event
    for column in sorted(unseen_columns) if is_json else ():
        tally.refuse(Problem(str(path), 0, "no line has this column", column))


def _json_rows(file: BinaryIO, meter: Meter, tally: Tally) -> Iterator[Row | _Fault]:
    for line in read_lines(file, meter, ROW_BYTES_MAX):
        if line.content is None:
            yield _Fault(line.number, "the line is too long")
            continue
        content = line.content.removeprefix(_BOM).strip() if line.number == 1 else line.content.strip()
        if not content:
            continue
        try:
            decoded = checks.decode_json(content)
        except InvalidInput as error:
            if line.is_ended:
                yield _Fault(line.number, error.detail)
            else:
                tally.unfinished += 1
            continue
        if isinstance(decoded, dict):
            yield Row(line.number, decoded, content)
        else:
            yield _Fault(line.number, "the line must be a JSON object")


class _CsvLines:
    """Feeds `csv.reader` with text lines and knows how far it has come.

    Lines that are no UTF-8 or too long are passed over and handed out as faults.
    """

    def __init__(self, file: BinaryIO, meter: Meter) -> None:
        self._lines = read_lines(file, meter, ROW_BYTES_MAX)
        self.first = 0
        """Number of the row's first line; set to 0 before each row is asked for."""
        self.faults: list[_Fault] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            if line.content is None:
                self.faults.append(_Fault(line.number, "the line is too long"))
                continue
            content = line.content
            if line.number == 1:
                if content.startswith(_UTF16):
                    raise InvalidInput("the file is UTF-16; save it as UTF-8")
                content = content.removeprefix(_BOM)
            try:
                text = content.decode() + "\n"
            except UnicodeDecodeError:
                self.faults.append(_Fault(line.number, "the line is not UTF-8"))
                continue
            self.first = self.first or line.number
            return text
        raise StopIteration


def _csv_rows(file: BinaryIO, mapping: TableMapping, meter: Meter, path: str) -> Iterator[Row | _Fault]:
    lines = _CsvLines(file, meter)
    header_line = next((text for text in lines if text.strip()), NO_TEXT)
    delimiter, header = _header(header_line, mapping, path)
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        lines.first = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield _Fault(lines.first, f"not readable as CSV: {error}")
            continue
        yield from lines.faults
        lines.faults.clear()
        if cells is None:
            return
        if not any(cells):
            continue
        if len(cells) != len(header):
            yield _Fault(lines.first, f"the row has {len(cells)} cells, the header {len(header)}")
            continue
        # Lengths in front keep ("ab", "c") and ("a", "bc") apart.
        content = "".join(f"{len(cell)}:{cell}" for cell in cells).encode()
        yield Row(lines.first, dict(zip(header, cells, strict=True)), content)


def _header(line: str, mapping: TableMapping, path: str) -> tuple[str, list[str]]:
    """Return the separator and the column names of a table's first line.

    Raises:
        InvalidInput: With no separator are all mapped columns there, each once.
    """
    headers = {
        delimiter: [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
        for delimiter in _DELIMITERS
    }
    needed = mapping.columns_needed
    for delimiter, header in headers.items():
        if set(needed) <= set(header):
            twice = [name for name in needed if header.count(name) > 1]
            if twice:
                raise InvalidInput(f"{path} has two columns {twice[0]!r}", field=twice[0])
            return delimiter, header
    longest = max(headers.values(), key=len)
    missing = [name for name in needed if name not in longest]
    there = ", ".join(longest) or "none"
    raise InvalidInput(f"{path} has no column {missing[0]!r}; its columns are {there}", field=missing[0])


def _event(row: Row, mapping: TableMapping, seen: dict[bytes, int]) -> UsageEvent:
    values = mapping.values_of(lambda column: _cell(row.cells, column))
    agent = str(values["agent"])
    if mapping.key_column is None:
        key = _key_of_content(row.content, agent, mapping, seen)
    else:
        key = key_from_text(_own_key(_cell(row.cells, mapping.key_column), mapping.key_column))
    return _event_of_values(key, values)


def _cell(cells: Mapping[str, object], column: str) -> object:
    """Return a column's value; in JSON `usage.input_tokens` reaches into objects. Missing is None."""
    if column in cells:
        return cells[column]
    value: object = cells
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _own_key(value: object, column: str) -> str:
    text = str(value).strip() if isinstance(value, str) or type(value) is int else NO_TEXT
    if not 1 <= len(text) <= KEY_LENGTH_MAX:
        raise InvalidInput(f"a key of 1 to {KEY_LENGTH_MAX} characters must stand here", field=column)
    return text


def _key_of_content(content: bytes, agent: str, mapping: TableMapping, seen: dict[bytes, int]) -> bytes:
    digest = hashlib.blake2b(mapping.identity, digest_size=16)
    digest.update(b"%d:" % len(agent.encode()) + agent.encode() + content)
    # Eight bytes suffice to count: two contents that share them still get different keys.
    mark = digest.digest()[:8]
    occurrence = seen.get(mark, 0)
    seen[mark] = occurrence + 1
    digest.update(b"#%d" % occurrence)
    return digest.digest()


def _event_of_values(key: bytes, values: Mapping[str, object]) -> UsageEvent:
    counts = _disjoint({name: cast("int", values.get(name, 0)) for name in checks.COUNT_FIELDS}, values)
    error = cast("str", values.get("error", NO_TEXT))
    event = UsageEvent(
        key=key,
        occurred_at=_time_of(values),
        subject=_subject(values),
        source=Source.CSV,
        duration_ms=cast("int", values.get("duration_ms", values.get("duration_s", 0))),
        reported_nusd=cast("int | None", values.get("cost_usd")),
        is_error=cast("bool", values.get("status", bool(error))),
        billing=cast("Billing", values.get("billing", Billing.METERED)),
        service_tier=cast("ServiceTier", values.get("service_tier", ServiceTier.STANDARD)),
        run=_text(values, "run_id"),
        parent_run=_text(values, "parent_run_id"),
        session=_text(values, "session_id"),
        revision=cast("int", values.get("revision", 0)),
        attributes=_attributes(values, error),
    )
    return msgspec.structs.replace(event, **counts)


def _text(values: Mapping[str, object], name: str) -> str:
    return cast("str", values.get(name, NO_TEXT))


def _time_of(values: Mapping[str, object]) -> int:
    return next(cast("int", value) for name, value in values.items() if name.startswith("occurred_at"))


def _subject(values: Mapping[str, object]) -> Subject:
    return Subject(
        agent=_text(values, "agent"),
        provider=_text(values, "provider"),
        model=_text(values, "model"),
        project=_text(values, "project"),
        feature=_text(values, "feature"),
        user=_text(values, "user"),
    )


def _disjoint(counts: dict[str, int], values: Mapping[str, object]) -> dict[str, int]:
    """Return the counts with inclusive input and output taken apart.

    Raises:
        InvalidInput: A part is larger than the whole it is said to be in.
    """
    cached = counts["cache_read_tokens"] + counts["cache_write_5m_tokens"] + counts["cache_write_1h_tokens"]
    parts = (
        (INPUT_INCLUSIVE, "input_tokens", cached),
        (OUTPUT_INCLUSIVE, "output_tokens", counts["reasoning_tokens"]),
    )
    for inclusive, plain, part in parts:
        if inclusive in values:
            whole = cast("int", values[inclusive])
            if part > whole:
                raise InvalidInput(f"{inclusive} is {whole}, its parts are {part}", field=inclusive)
            counts[plain] = whole - part
    return counts


def _attributes(values: Mapping[str, object], error: str) -> dict[str, object] | None:
    said = {
        name.removeprefix(ATTRIBUTE_PREFIX): value
        for name, value in values.items()
        if name.startswith(ATTRIBUTE_PREFIX) and value is not None
    }
    return checks.attributes(said | ({"error": error} if error else {}), "attributes")
