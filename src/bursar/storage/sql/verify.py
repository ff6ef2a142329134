"""Prove a whole ledger file, live or a copy, without writing to it.

    path → open_snapshot → organisation by organisation, range by range → VerifyReport

Memory is bounded: about `ROWS` events' groups at a time; the sums of runs and batches lie in
temporary tables, which SQLite spills to disk. Not here: the checks themselves
(`verify_sums`, `verify_rows`, `verify_history`, `verify_names`, `verify_budgets`).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import Findings, VerifyReport, Violation
from bursar.storage.migrations import HEAD
from bursar.storage.sql import verify_budgets, verify_history, verify_names, verify_rows, verify_sums
from bursar.storage.sql.verify_scope import TIME_MAX, TIME_MIN, Scope
from bursar.storage.sqlite.connection import BUSY_MS, SqliteConnection
from bursar.storage.sqlite.migrate import schema_version

Progress = Callable[[int, int], None]
"""Called with how many events are proved and how many there are."""

ROWS = 50_000
"""Events grouped at a time: some 50 MB where every one is a group of its own."""

CACHE_KIB = 64 * 1024
_EVENTS = "SELECT coalesce(sum(events), 0) FROM batch"
_EVENTS_IN = "SELECT count(*) FROM event WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3"
_UNSUMMABLE = ("integer overflow", "malformed JSON")
"""What SQLite says of a sum beyond 64 bits and of rare units that are no JSON; it has no code for either."""


def verify_file(path: Path, progress: Progress | None = None) -> VerifyReport:
    """Check everything in the file at `path` and return what was found.

    Reads one snapshot; the server may go on writing. The file, its directory and
    anything beside it stay as they are.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: It cannot be read here, for example because its write-ahead log cannot.
    """
    findings = Findings()
    try:
        with closing(open_snapshot(path)) as connection:
            _verify(connection, findings, progress)
    except sqlite3.DatabaseError as error:
        note_damage(findings, path, error)
    return findings.report()


def note_damage(findings: Findings, path: Path, error: sqlite3.DatabaseError) -> None:
    """Take an error of reading for what it is: a violation where the file is damaged.

    Raises:
        Unavailable: The file may be whole, but cannot be read at the moment.
    """
    # Texts that are no UTF-8 come without a code: damage as well.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_CORRUPT:
        raise Unavailable(f"{path} cannot be read to its end: {error}") from error
    findings.add(Violation("file", 0, path.name, "", "a readable file", str(error)))


def _verify(connection: SqliteConnection, findings: Findings, progress: Progress | None) -> None:
    _check_file(connection, findings)
    total = connection.execute(_EVENTS).fetchone()[0]
    done = 0
    for org in verify_names.organisations(connection, findings):
        for rows in verify_organisation(Scope(connection, org, findings)):
            done += rows
            if progress is not None:
                progress(min(done, total), total)


def verify_organisation(scope: Scope) -> Iterator[int]:
    """Check one organisation whole; yields how many events each range had."""
    rules = verify_rows.load_rules(scope)
    for start, end in verify_sums.ranges(scope, ROWS, TIME_MIN, TIME_MAX):
        check_range(scope, start, end, rules)
        verify_sums.add_runs(scope)
        verify_history.add_batches(scope, start, end)
        yield scope.number(_EVENTS_IN, start, end)
    check_whole(scope)
    verify_budgets.check(scope)


def check_range(scope: Scope, start: int, end: int, rules: verify_rows.Rules) -> None:
    """Check everything that a range of whole hours can show by itself."""
    try:
        verify_sums.group(scope, start, end)
        verify_sums.check_rollups(scope, start, end)
    except sqlite3.OperationalError as error:
        if not any(text in str(error) for text in _UNSUMMABLE):
            raise
        scope.differs("rollups", "event", f"{start} to {end}", expected="sums within 64 bits", found=error)
    verify_sums.check_names(scope)
    verify_rows.check_keys(scope, start, end)
    verify_rows.check_unlisted(scope, start, end)
    verify_rows.check_rows(scope, start, end, rules)


def check_whole(scope: Scope) -> None:
    """Check what only all ranges together show, budgets apart; runs and batches must have been added."""
    verify_sums.check_runs(scope)
    verify_sums.check_totals(scope)
    verify_rows.check_listed(scope)
    verify_history.check_batches(scope)
    verify_history.check_numbers(scope)
    verify_history.check_key_counts(scope)
    verify_history.check_corrections(scope)
    verify_names.check_api_keys(scope)


def open_snapshot(path: Path) -> SqliteConnection:
    """Return a connection that reads one state of the file at `path` and cannot change it.

    A file without a write-ahead log is nobody's at this moment: it is opened as immutable, which
    needs no file beside it. With a log, SQLite needs its index too; where that cannot
    be made (a read-only directory) an empty log is passed over and a filled one is refused.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: Its write-ahead log cannot be read here.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is no file")
    log = path.with_name(f"{path.name}-wal")
    if not log.exists():
        return _opened(path, immutable=True)
    try:
        return _opened(path, immutable=False)
    except sqlite3.OperationalError as error:
        if log.stat().st_size:
            raise Unavailable(
                f"{log.name} holds commits that cannot be read here ({error}); copy both files to a "
                "directory that can be written"
            ) from error
    return _opened(path, immutable=True)


def renew_snapshot(connection: SqliteConnection) -> None:
    """Go on with the newest state; temporary tables stay."""
    connection.execute("COMMIT")
    connection.execute("BEGIN")


def _opened(path: Path, *, immutable: bool) -> SqliteConnection:
    uri = f"file:{quote(str(path.absolute()))}?{'immutable=1' if immutable else 'mode=ro'}"
    # A statement cache, since the same ones run for each range; the connection may be made in
    # one thread and interrupted from another.
    connection = sqlite3.connect(
        uri,
        uri=True,
        factory=SqliteConnection,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            f"cache_size = -{CACHE_KIB}",
            "temp_store = FILE",
            f"temp.cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        _check_schema(path, connection)
        verify_sums.prepare(connection)
        connection.execute(verify_history.PREPARE)
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise InvalidInput(f"{path} is no ledger: {error}") from error
        raise
    except InvalidInput:
        connection.close()
        raise
    return connection


def _check_schema(path: Path, connection: SqliteConnection) -> None:
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    version = schema_version(connection)
    if version != HEAD:
        raise InvalidInput(
            f"{path} has schema {version or 'none'}, this release proves {HEAD}; "
            "open it once with this release's server, or use the release that wrote it"
        )


def _check_file(connection: SqliteConnection, findings: Findings) -> None:
    """Let SQLite check its own structure: pages, order of keys, indexes against their tables."""
    findings.checked("file", connection.execute("PRAGMA page_count").fetchone()[0])
    for (message,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if message != "ok":
            findings.add(Violation("file", 0, "", "", "ok", message))
