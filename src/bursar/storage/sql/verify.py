"""Prove a whole ledger, live or a copy, without writing to it.

    Snapshots → organisation by organisation, range by range → VerifyReport

Memory is bounded: about `ROWS` events' groups at a time; the engine keeps the sums of runs and
batches. Not here: the checks themselves (`verify_sums`, `verify_rows`, `verify_history`,
`verify_names`, `verify_budgets`), how an engine opens, adds up and checks itself (`verify_ports`).
"""

from collections.abc import Callable, Iterator

from bursar.ledger.verification import Findings, VerifyReport
from bursar.storage.sql import verify_budgets, verify_history, verify_names, verify_rows, verify_sums
from bursar.storage.sql.verify_ports import Snapshot, Snapshots, Unsummable
from bursar.storage.sql.verify_scope import TIME_MAX, TIME_MIN, Scope

Progress = Callable[[int, int], None]
"""Called with how many events are proved and how many there are."""

ROWS = 50_000
"""Events grouped at a time: some 50 MB where every one is a group of its own."""

_EVENTS = "SELECT coalesce(sum(events), 0) FROM batch"
_EVENTS_IN = "SELECT count(*) FROM event WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3"


def verify(snapshots: Snapshots, progress: Progress | None = None) -> VerifyReport:
    """Check everything on one snapshot and return what was found; others may go on writing.

    Raises:
        InvalidInput: There is no ledger, or one of another release's schema.
        Unavailable: It cannot be read here and now, or not to its end.
    """
    findings = Findings()
    snapshots.read(lambda snapshot: _verify(snapshot, findings, progress), findings)
    return findings.report()


def _verify(snapshot: Snapshot, findings: Findings, progress: Progress | None) -> None:
    snapshot.check_structure(findings)
    total = snapshot.connection.execute(_EVENTS).fetchone()[0]
    done = 0
    for org in verify_names.organisations(snapshot, findings):
        for rows in verify_organisation(snapshot, Scope(snapshot.connection, org, findings)):
            done += rows
            if progress is not None:
                progress(min(done, total), total)


def verify_organisation(snapshot: Snapshot, scope: Scope) -> Iterator[int]:
    """Check one organisation whole; yields how many events each range had."""
    rules = verify_rows.load_rules(scope)
    for start, end in verify_sums.ranges(scope, ROWS, TIME_MIN, TIME_MAX):
        check_range(snapshot, scope, start, end, rules)
        gather(snapshot, scope, start, end)
        yield scope.number(_EVENTS_IN, start, end)
    with snapshot.joining():
        verify_rows.check_all_keys(scope)
    check_whole(snapshot, scope)
    verify_budgets.check(scope)


def check_range(snapshot: Snapshot, scope: Scope, start: int, end: int, rules: verify_rows.Rules) -> None:
    """Check everything that a range of whole hours can show by itself, keys apart."""
    try:
        with snapshot.summing():
            snapshot.sums.group(scope.org, start, end)
            referenced = verify_sums.check_rollups(scope, snapshot.sums, start, end)
        verify_sums.check_names(scope, referenced)
    except Unsummable as error:
        _note_unsummable(scope, start, end, error)
    verify_rows.check_unlisted(scope, start, end)
    verify_rows.check_rows(scope, start, end, rules)


def gather(snapshot: Snapshot, scope: Scope, start: int, end: int) -> None:
    """Add a range to what `check_whole` compares."""
    try:
        with snapshot.summing():
            snapshot.sums.gather(scope.org, start, end)
    except Unsummable as error:
        _note_unsummable(scope, start, end, error)


def check_whole(snapshot: Snapshot, scope: Scope) -> None:
    """Check what only all ranges together show, budgets apart; all of them must have been gathered."""
    verify_sums.check_runs(snapshot, scope)
    verify_sums.check_totals(snapshot, scope)
    verify_rows.check_listed(scope)
    verify_history.check_batches(scope, snapshot.sums)
    verify_history.check_numbers(scope)
    verify_history.check_key_counts(scope)
    verify_history.check_corrections(scope)
    verify_names.check_api_keys(scope)
    snapshot.sums.forget()


def _note_unsummable(scope: Scope, start: int, end: int, error: Unsummable) -> None:
    scope.differs("rollups", "event", f"{start} to {end}", expected="sums within 64 bits", found=error)
