"""Change any one column of any one row of the ledger: it is found, or named here as what is not summed."""

import pytest

from support.damage import inflict
from support.engines import Database

KEPT = {"sqlite": "kept", "postgres": "public.kept"}
"""Where a table's rows are kept meanwhile."""

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
TYPES = {"bigint": "INTEGER", "bytea": "BLOB", "text": "TEXT"}
MEDIA = """'{"web_searches":1}'"""
EMPTY_ORG = "3"
DURATIONS = "x'8101cd1000'"
SPECIAL = {"media": MEDIA, "durations": DURATIONS, "org": EMPTY_ORG, "sign": "-sign"}
# Stored columns with their types; generated ones are left out.
IN_SQLITE = "SELECT name, type, pk > 0 FROM pragma_table_info(?)"
IN_POSTGRES = """SELECT a.attname, format_type(a.atttypid, NULL), EXISTS (SELECT 1 FROM pg_index i
        WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
    FROM pg_attribute a WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attgenerated = '' ORDER BY a.attnum"""


@pytest.mark.parametrize("table", ROWS)
def test_no_column_changes_unseen(table: str, copy: Database) -> None:
    listed = copy.rows(IN_SQLITE if copy.kind == "sqlite" else IN_POSTGRES, table)
    columns = {name: TYPES.get(kind, kind) for name, kind, _ in listed}
    keys = ", ".join(name for name, _, is_key in listed if is_key)
    one = f"({keys}) = (SELECT {keys} FROM {table} WHERE {ROWS[table]} LIMIT 1)"
    names = ", ".join(columns)
    inflict(copy, f"CREATE TABLE {KEPT[copy.kind]} AS SELECT {names} FROM {table}")
    unseen = set()
    for name, kind in columns.items():
        value = SPECIAL.get(name, OTHER_VALUES[kind].format(name))
        assert inflict(copy, f"UPDATE {table} SET {name} = {value} WHERE {one}") == 1
        if copy.verify().ok:
            unseen.add(name)
        back = f"INSERT INTO {table} ({names}) SELECT {names} FROM {KEPT[copy.kind]}"
        inflict(copy, f"DELETE FROM {table}; {back}")
    assert copy.verify().ok
    assert unseen == NOT_SUMMED.get(table, set())
