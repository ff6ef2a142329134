"""A file is proved where it lies: live, copied, sealed or torn; nothing beside it is touched."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import VerifyReport
from bursar.storage.sqlite.connection import open_writer
from bursar.storage.sqlite.snapshots import verify_file

NOBODY = 65_534


def failing(report: VerifyReport) -> set[str]:
    return {check.name for check in report.checks if check.violations}


@pytest.fixture
def copy(good_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good_file, tmp_path / "copy.db"))


def test_a_torn_page_is_found(copy: Path) -> None:
    with copy.open("r+b") as file:
        for page in range(20, 40):
            file.seek(page * 8192)
            file.write(b"\xff" * 4096)
    assert "file" in failing(verify_file(copy))


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no file"):
        verify_file(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("no database\n" * 100)
    with pytest.raises(InvalidInput, match="is no ledger"):
        verify_file(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(InvalidInput, match="schema none"):
        verify_file(tmp_path / "empty.db")


def test_proving_leaves_the_directory_as_it_was(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir()}
    verify_file(copy)
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir()} == before


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write anywhere; give that up for a moment."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def sealed(good_file: Path) -> Iterator[Path]:
    """A copy whose directory cannot be written, as a mounted backup's."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-sealed-"))
    path = Path(shutil.copy(good_file, directory / "backup.db"))
    path.chmod(0o444)
    yield path
    directory.chmod(0o700)
    shutil.rmtree(directory)


def test_a_backup_in_a_read_only_directory_is_proved(sealed: Path) -> None:
    sealed.parent.chmod(0o555)
    with as_nobody():
        assert verify_file(sealed).ok


def test_an_empty_log_beside_a_backup_does_no_harm(sealed: Path) -> None:
    sealed.with_name("backup.db-wal").touch()
    sealed.parent.chmod(0o555)
    with as_nobody():
        assert verify_file(sealed).ok


def test_commits_that_cannot_be_read_are_not_passed_over(sealed: Path) -> None:
    sealed.chmod(0o600)
    writer = open_writer(sealed)
    writer.execute("DELETE FROM rollup_user WHERE org = 1")
    log = sealed.with_name("backup.db-wal")
    kept = log.read_bytes()
    writer.close()
    log.write_bytes(kept)
    sealed.with_name("backup.db-shm").unlink(missing_ok=True)
    for path in (sealed, log):
        path.chmod(0o444)
    sealed.parent.chmod(0o555)
    with as_nobody(), pytest.raises(Unavailable, match="copy both files"):
        verify_file(sealed)
