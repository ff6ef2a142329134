"""Every kind of damage is found; a good file with all that can happen gives nothing."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from audited_ledger import AuditedLedger, event, fill

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import CHECKS, Findings, VerifyReport, Violation
from bursar.storage.sql.verify import verify_file
from bursar.storage.sqlite.connection import open_writer
from bursar.wiring import verify_file as verify_path

NOBODY = 65_534
A_REVISED = "(SELECT key FROM entry WHERE org = 1 AND reason = 'revision' ORDER BY seq LIMIT 1)"
AN_EVENT = "(SELECT key FROM event WHERE org = 1 AND flags >> 14 & 3 = 1 AND card > 0 ORDER BY key LIMIT 1)"
A_LISTED = "(SELECT key FROM unpriced_event WHERE org = 1 ORDER BY key LIMIT 1)"
LAST_BATCH = "(SELECT max(seq) FROM batch WHERE org = 1)"

DAMAGE = {
    "a hold is voided behind its settlement's back": (
        "UPDATE hold SET state = 'voided' WHERE org = 1", "holds"),
    "a posting is of nobody": (
        "UPDATE posting SET source = randomblob(16) WHERE org = 1", "postings"),
    "a window counts what nobody posted": (
        "UPDATE budget_window SET settled = settled + 1 WHERE org = 1", "windows"),
    "a roll-up of agents is one nano-dollar off": (
        "UPDATE rollup_agent SET cost_nusd = cost_nusd + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of projects lost a request": (
        "UPDATE rollup_project SET requests = requests - 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of features gained tokens": (
        "UPDATE rollup_feature SET cache_read_tokens = cache_read_tokens + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of users lost an unpriced request": (
        "UPDATE rollup_user SET unpriced_requests = unpriced_requests + 1 WHERE rowid_of = 1", "rollups"),
    "a histogram was emptied": ("UPDATE rollup_agent SET durations = x'80' WHERE rowid_of = 1", "rollups"),
    "an hour's first time is wrong": (
        "UPDATE rollup_project SET first_at = first_at + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up row is gone": ("DELETE FROM rollup_feature WHERE rowid_of = 1", "rollups"),
    "a roll-up row has no entries": (
        """INSERT INTO rollup_user SELECT org, hour + 3600000000 * 100000, user, requests, errors,
           unpriced_requests, unpriced_tokens, cost_nusd, input_tokens, output_tokens, reasoning_tokens,
           cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, media_tokens, web_searches,
           duration_ms FROM rollup_user WHERE rowid_of = 1""", "rollups"),
    "a cost moved between two roll-up rows": (
        """UPDATE rollup_feature SET cost_nusd = cost_nusd + CASE hour WHEN (SELECT min(hour) FROM
           rollup_feature WHERE org = 1) THEN 5 ELSE -5 END WHERE org = 1 AND hour IN (SELECT hour FROM
           rollup_feature WHERE org = 1 ORDER BY hour LIMIT 2)""", "rollups"),
    "an agent's total is off": ("UPDATE agent_total SET output_tokens = 0 WHERE rowid_of = 1", "totals"),
    "an agent's total is gone": ("DELETE FROM agent_total WHERE rowid_of = 1", "totals"),
    "a run's total is off": ("UPDATE run SET errors = errors + 1 WHERE rowid_of = 1", "runs"),
    "a run is gone": ("DELETE FROM run WHERE rowid_of = 1", "runs"),
    "a run's name is another's": ("UPDATE run SET external_id = 'x' WHERE external_id = 'run-1'", "runs"),
    "an event is gone": (f"DELETE FROM event WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "an event and its key are gone": (
        f"""CREATE TEMP TABLE lost AS SELECT {AN_EVENT} AS key; DELETE FROM event WHERE org = 1 AND key =
            (SELECT key FROM lost); DELETE FROM event_key WHERE org = 1 AND key = (SELECT key FROM lost)""",
        "batches"),
    "an event's key is gone": (f"DELETE FROM event_key WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "a key has no event": ("INSERT INTO event_key VALUES (1, zeroblob(16), 5, 0)", "keys"),
    "a key has another time": (
        f"UPDATE event_key SET occurred_at = occurred_at + 1 WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "a prompt has no event": ("UPDATE prompt SET key = zeroblob(16)", "keys"),
    "an event's tokens changed": (
        f"UPDATE event SET input_tokens = input_tokens + 1 WHERE org = 1 AND key = {AN_EVENT}", "rollups"),
    "an event changed its agent": (
        f"UPDATE event SET agent = agent % 3 + 1 WHERE org = 1 AND key = {AN_EVENT}", "rollups"),
    "an event changed its user": (
        f"UPDATE event SET user = 999 WHERE org = 1 AND key = {AN_EVENT}", "names"),
    "an event has no model": (f"UPDATE event SET model = 0 WHERE org = 1 AND key = {AN_EVENT}", "names"),
    "an event moved to another hour": (
        (f"UPDATE event SET occurred_at = occurred_at + 7200000000 "
        f"WHERE org = 1 AND key = {AN_EVENT}"), "keys"),
    "an event moved to another organisation": (
        f"UPDATE event SET org = 2 WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "an event moved to another batch": (
        f"UPDATE event SET batch = {LAST_BATCH} WHERE org = 1 AND key = {AN_EVENT}", "batches"),
    "a revision was undone in its key": (
        f"UPDATE event_key SET revision = 0 WHERE org = 1 AND key = {A_REVISED}", "revisions"),
    "a revision was raised in its key": (
        f"UPDATE event_key SET revision = 99 WHERE org = 1 AND key = {A_REVISED}", "revisions"),
    "a reversal is gone": ("DELETE FROM entry WHERE org = 1 AND seq = 3", "corrections"),
    "a correction is gone": ("DELETE FROM entry WHERE org = 1 AND seq IN (3, 4)", "corrections"),
    "the last correction is gone": (
        ("DELETE FROM entry WHERE org = 1 AND seq > (SELECT max(seq) - 2 FROM entry "
        "WHERE org = 1)"), "batches"),
    "a reversal takes back less than stood": (
        "UPDATE entry SET output_tokens = output_tokens - 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal lost its run": (
        "UPDATE entry SET session = zeroblob(16) WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal became a post": ("UPDATE entry SET sign = 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal names another entry": (
        "UPDATE entry SET corrects = 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a correction says another reason": (
        "UPDATE entry SET revision = 0 WHERE org = 1 AND seq IN (3, 4)", "revisions"),
    "a correction was posted twice": (
        """CREATE TEMP TABLE twice AS SELECT * FROM entry WHERE org = 1 AND seq IN (3, 4);
           UPDATE twice SET seq = seq + (SELECT max(seq) FROM entry WHERE org = 1) - 2;
           INSERT INTO entry SELECT org, seq, sign, revision, reason, corrects, occurred_at, key, batch,
           agent, model, project, feature, user, api_key, run, session, hold, input_tokens, output_tokens,
           reasoning_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, media,
           duration_ms, flags, reported_nusd, card, computed_nusd, attributes FROM twice""", "corrections"),
    "a batch is gone": ("DELETE FROM batch WHERE org = 1 AND seq = 2", "batches"),
    "the last batch is gone": (f"DELETE FROM batch WHERE org = 1 AND seq = {LAST_BATCH}", "batches"),
    "a batch counts other events": (
        "UPDATE batch SET events = events + 1 WHERE org = 1 AND seq = 1", "batches"),
    "a batch counts other entries": ("UPDATE batch SET entries = 0 WHERE org = 1 AND entries > 0", "batches"),
    "a batch names other hours": ("UPDATE batch SET hours = '[0]' WHERE org = 1 AND seq = 1", "batches"),
    "an unpriced event is not listed": (
        f"DELETE FROM unpriced_event WHERE org = 1 AND key = {A_LISTED}", "unpriced"),
    "a priced event is listed as unpriced": (
        f"""INSERT INTO unpriced_event SELECT org, model, occurred_at, key FROM event
            WHERE org = 1 AND key = {AN_EVENT}""", "unpriced"),
    "an unpriced event is listed under another model": (
        f"UPDATE unpriced_event SET model = 1 WHERE org = 1 AND key = {A_LISTED}", "unpriced"),
    "a cost counts that is not kept": (
        (f"UPDATE event SET flags = flags & ~49152 | 32768, reported_nusd = NULL "
        f"WHERE org = 1 AND key = {AN_EVENT}"),
        "costs"),
    "flags say what they cannot": (
        f"UPDATE event SET flags = flags | 49152 WHERE org = 1 AND key = {AN_EVENT}", "costs"),
    "an unpriced event has a computed cost": (
        f"UPDATE event SET computed_nusd = 0 WHERE org = 1 AND key = {A_LISTED}", "prices"),
    "a computed cost is one nano-dollar low": (
        f"UPDATE event SET computed_nusd = computed_nusd - 1 WHERE org = 1 AND key = {AN_EVENT}", "prices"),
    "a correction's computed cost is off": (
        """UPDATE entry SET computed_nusd = computed_nusd + 1 WHERE org = 1 AND sign = 1 AND seq =
           (SELECT max(seq) FROM entry WHERE org = 1 AND sign = 1 AND computed_nusd > 0)""", "prices"),
    "an event was priced by another tier": (
        f"UPDATE event SET flags = flags | 16 WHERE org = 1 AND key = {AN_EVENT}", "prices"),
    "a rate changed": (
        "UPDATE rate_card SET lines = replace(lines, '2500000000', '2500000001') WHERE org = 1", "cards"),
    "a rate changed, digest and all": (
        ("UPDATE rate_card SET lines = '[[\"input_tokens\",1,0]]', digest = zeroblob(16) "
        "WHERE org = 1 AND card = 1"),
        "prices"),
    "a rate card is nonsense": ("UPDATE rate_card SET lines = '{' WHERE org = 1 AND card = 1", "cards"),
    "a rate card is gone": ("DELETE FROM rate_card WHERE org = 1 AND card = 1", "cards"),
    "an agent's name is gone": ("DELETE FROM agent WHERE org = 1 AND name = 'coder'", "names"),
    "a model's name is gone": ("DELETE FROM model WHERE org = 1 AND name = 'gpt-4o'", "names"),
    "an API key is gone": ("DELETE FROM api_key WHERE org = 1 AND api_key = 1", "api_keys"),
    "a key's hash is gone": ("DELETE FROM api_key_hash WHERE api_key = 1", "api_keys"),
    "a key's hash is another": ("UPDATE api_key SET hash = randomblob(32) WHERE api_key = 1", "api_keys"),
    "a hash opens another key": ("UPDATE api_key_hash SET api_key = 2 WHERE api_key = 1", "api_keys"),
    "a revoked key was made active": ("UPDATE api_key SET is_active = 1", "api_keys"),
    "an organisation is gone": ("DELETE FROM organisation WHERE org = 2", "organisations"),
    "rows hide under an unknown organisation": ("UPDATE quarantine SET org = 77", "organisations"),
    "a quarantined event was dropped": ("DELETE FROM quarantine WHERE seq = 1", "logs"),
    "the audit log has a gap": ("DELETE FROM audit WHERE org = 1 AND seq = 2", "logs"),
    "sums leave 64 bits": (
        ("UPDATE event SET reported_nusd = 9223372036854775807 "
        "WHERE org = 1 AND reported_nusd > 0"), "rollups"),
    "a count is negative": (
        f"""PRAGMA ignore_check_constraints = ON;
            UPDATE event SET duration_ms = -1 WHERE org = 1 AND key = {AN_EVENT}""", "rollups"),
    "an event's rare units are no mapping": (
        f"UPDATE event SET media = '[]' WHERE org = 1 AND key = {AN_EVENT}", "prices"),
    "a name is no UTF-8": (
        "UPDATE rate_card SET model = CAST(x'ff' AS TEXT) WHERE org = 1 AND card = 1", "file"),
    "an index lost a row": (
        """PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(org, key, seq)',
           '(org, key, batch)') WHERE name = 'entry_by_key'""", "file"),
}  # fmt: skip


def first_row(sql: str) -> str:
    """Spell `rowid_of = 1`: the table's first row of the first organisation (tables have no rowid)."""
    if "rowid_of" not in sql:
        return sql
    table = next(name for name in ("rollup_agent", "rollup_project", "rollup_feature", "rollup_user",
                                   "agent_total", "run") if name in sql)  # fmt: skip
    keys = {"rollup_agent": "org, hour, agent, model, billing", "rollup_project": "org, hour, project, model",
            "rollup_feature": "org, hour, feature", "rollup_user": "org, hour, user",
            "agent_total": "org, agent", "run": "org, run"}[table]  # fmt: skip
    return sql.replace(
        "rowid_of = 1", f"({keys}) IN (SELECT {keys} FROM {table} WHERE org = 1 ORDER BY {keys} LIMIT 1)"
    )


def failing(report: VerifyReport) -> set[str]:
    return {check.name for check in report.checks if check.violations}


@pytest.fixture
def copy(good_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good_file, tmp_path / "copy.db"))


def break_file(path: Path, sql: str) -> int:
    """Run `sql` on a copy; return how many rows it changed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(first_row(sql))
    changed = connection.total_changes
    connection.close()
    return changed


def test_a_good_file_gives_nothing(good_file: Path) -> None:
    report = verify_file(good_file)
    assert report.violations == ()
    assert report.ok
    assert [check.name for check in report.checks if not check.checked] == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(kind: str, copy: Path) -> None:
    sql, check = DAMAGE[kind]
    assert break_file(copy, sql) > 0
    report = verify_file(copy)
    assert check in failing(report)
    assert not report.ok


def test_every_check_is_tried() -> None:
    assert {check for _, check in DAMAGE.values()} == set(CHECKS)


def test_a_violation_says_where_and_both_figures(copy: Path) -> None:
    break_file(copy, "UPDATE agent_total SET input_tokens = 5 WHERE org = 1 AND agent = 2")
    (violation,) = verify_file(copy).violations
    assert violation[:4] == ("totals", 1, "agent_total", "agent=2: input_tokens")
    assert (int(violation.expected) > 100, violation.found) == (True, "5")


def test_a_torn_page_is_found(copy: Path) -> None:
    with copy.open("r+b") as file:
        for page in range(20, 40):
            file.seek(page * 8192)
            file.write(b"\xff" * 4096)
    assert "file" in failing(verify_file(copy))


def test_the_report_lists_the_first_and_counts_all() -> None:
    findings = Findings(shown_max=2)
    for number in range(5):
        findings.add(Violation("keys", 1, "event", str(number), "x", "y"))
    report = findings.report()
    assert [violation.key for violation in report.violations] == ["0", "1"]
    assert report.violations_count == 5
    assert json.loads(json.dumps(report.to_json()))["violations_count"] == 5


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no file"):
        verify_file(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("no database\n" * 100)
    with pytest.raises(InvalidInput, match="is no ledger"):
        verify_file(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(InvalidInput, match="schema none"):
        verify_file(tmp_path / "empty.db")


def test_progress_ends_at_the_number_of_events(good_file: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_path(good_file.parent, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 100


def test_proving_leaves_the_directory_as_it_was(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir()}
    verify_file(copy)
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir()} == before


def test_a_running_server_is_proved_with_what_it_has_committed(ledger: AuditedLedger) -> None:
    fill(ledger)
    assert ledger.path.with_name("bursar.db-wal").stat().st_size > 0
    report = verify_file(ledger.path)
    assert report.ok
    ledger.post([event("one more")])
    keys = list(CHECKS).index("keys")
    assert verify_file(ledger.path).checks[keys].checked == report.checks[keys].checked + 1


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
