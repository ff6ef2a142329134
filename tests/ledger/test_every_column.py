"""Change any one column of any one row of the ledger: it is found, or named here as what is not summed."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from bursar.storage.sqlite.snapshots import verify_file

ROWS = {
    "event": "org = 1 AND card > 0 AND flags >> 14 & 3 = 1 AND run IS NOT NULL AND reported_nusd IS NULL",
    "entry": "org = 1 AND sign = -1",
    "event_key": "org = 2",
    "batch": "org = 1",
    "unpriced_event": "org = 1",
    "rate_card": "org = 1",
    "rollup_agent": "org = 1 AND agent > 1",
    "rollup_project": "org = 1",
    "rollup_feature": "org = 1",
    "rollup_user": "org = 1",
    "agent_total": "org = 1",
    "run": "org = 1 AND external_id IS NOT NULL",
    "api_key": "org = 1",
    "api_key_hash": "org = 1",
}
NOT_SUMMED = {
    # What is kept of a call and enters no sum. A reversal repeats it all, so there it is compared.
    "event": {"session", "hold", "attributes", "reported_nusd"},
    # The first revision that a key came with is written nowhere else.
    "event_key": {"revision"},
    "batch": {"committed_at"},
    "rate_card": {"origin", "first_used_at"},
    "run": {"parent", "agent"},
    "api_key": {"id", "name", "prefix", "scopes", "project", "agent", "created_at", "expires_at",
                "last_used_at", "auth_failures_count", "last_failed_at", "ends_at", "replaced_by"},
}  # fmt: skip
OTHER_VALUES = {
    "INTEGER": "coalesce({0}, 0) + 1000",
    "BLOB": "CASE WHEN {0} IS NULL THEN randomblob(16) ELSE zeroblob(length({0})) END",
    "TEXT": "coalesce({0}, '') || 'x'",
}
MEDIA = """'{"web_searches":1}'"""
EMPTY_ORG = "3"
DURATIONS = "x'8101cd1000'"


@pytest.mark.parametrize("table", ROWS)
def test_no_column_changes_unseen(table: str, good_file: Path, tmp_path: Path) -> None:
    unseen = {column for column in columns(good_file, table) if not seen(good_file, tmp_path, table, *column)}
    assert {name for name, _ in unseen} == NOT_SUMMED.get(table, set())


def columns(path: Path, table: str) -> list[tuple[str, str]]:
    """Stored columns with their types; `table_info` leaves generated ones out."""
    connection = sqlite3.connect(path)
    found = [(name, kind) for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()
    return found


def seen(good_file: Path, folder: Path, table: str, name: str, kind: str) -> bool:
    path = Path(shutil.copy(good_file, folder / "copy.db"))
    special = {"media": MEDIA, "durations": DURATIONS, "org": EMPTY_ORG, "sign": "-sign"}
    value = special.get(name, OTHER_VALUES[kind].format(name))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    keys = ", ".join(
        column for _, column, _, _, _, place in connection.execute(f"PRAGMA table_info({table})") if place
    )
    one = f"({keys}) = (SELECT {keys} FROM {table} WHERE {ROWS[table]} LIMIT 1)"
    changed = connection.execute(f"UPDATE {table} SET {name} = {value} WHERE {one}").rowcount
    connection.close()
    assert changed == 1
    return not verify_file(path).ok
