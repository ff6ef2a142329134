import os
from pathlib import Path

import pytest

from bursar.capture.cursor import ImportCursor, identity, mark_of


def marked(paths: list[Path], settings: str = "") -> ImportCursor:
    marks = {identity(path): mark for path in paths if (mark := mark_of(path))}
    return ImportCursor().with_read(marks, settings)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text("one\n")
    return path


def test_a_file_is_unread_until_it_was_read(log: Path) -> None:
    assert ImportCursor().unread([log]) == [log]
    assert marked([log]).unread([log]) == []


def test_a_file_that_grew_is_unread(log: Path) -> None:
    cursor = marked([log])
    with log.open("a") as file:
        file.write("two\n")
    assert cursor.unread([log]) == [log]


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_unread(log: Path) -> None:
    cursor = marked([log])
    before = log.stat()
    log.write_text("two\n")
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cursor.unread([log]) == [log]


def test_a_file_that_is_gone_is_left_to_the_reader_to_tell(log: Path) -> None:
    cursor = marked([log])
    log.unlink()
    assert cursor.unread([log]) == [log]
    assert mark_of(log) is None


def test_other_settings_make_all_files_unread(log: Path) -> None:
    cursor = marked([log], "agent=a")
    assert cursor.unread([log], "agent=b") == [log]
    assert cursor.with_read({}, "agent=b").marks == {}


def test_a_file_is_known_by_any_way_to_it(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(log)
    assert marked([log]).unread([tmp_path / "link"]) == []


def test_a_stored_cursor_comes_back_and_a_broken_one_is_empty(log: Path) -> None:
    cursor = marked([log])
    assert ImportCursor.from_bytes(cursor.to_bytes()) == cursor
    for raw in (None, b"", b"{", b"\xff", b"[" * 100_000, b'{"marks": 5}'):
        assert ImportCursor.from_bytes(raw) == ImportCursor()


def test_a_name_that_is_no_text_can_be_remembered(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    path.write_text("x")
    cursor = ImportCursor.from_bytes(marked([path]).to_bytes())
    assert cursor.unread([path]) == []
