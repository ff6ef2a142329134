"""What PostgreSQL can say of its own structure: indexes, keys, constraints and partitions of a ledger.

Pages, and indexes against their tables, are checked where the extension `amcheck` is installed and may
be used. Not here: rows, which `storage.sql.verify` proves from what the tables give.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from bursar.ledger.verification import Findings, Violation
from bursar.storage.migrations.baseline import KEY_PARTS
from bursar.storage.postgres.connection import PostgresConnection

Guard = Callable[[], AbstractContextManager[list[str]]]
"""Lets statements inside find damage: gives a list of what the server said of it."""

_RELATIONS = """SELECT count(*) FROM pg_class c
    WHERE c.relnamespace = 'bursar'::regnamespace AND c.relkind IN ('r', 'p', 'i', 'I')"""
# One that is being built at this moment is not valid yet.
_BROKEN_INDEXES = """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'bursar'::regnamespace AND NOT (i.indisvalid AND i.indisready AND i.indislive)
        AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
    ORDER BY 1"""
_UNPROVED_CONSTRAINTS = """SELECT format('%s on %s', o.conname, c.relname)
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    WHERE c.relnamespace = 'bursar'::regnamespace AND NOT o.convalidated ORDER BY 1"""
_KEYLESS = """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'bursar'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'org'
        AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) ORDER BY 1"""
_KEY_PARTS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'bursar.event_key'::regclass"
_AMCHECK = """SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'amcheck' AND EXISTS (SELECT 1 FROM pg_proc f WHERE f.pronamespace = n.oid
        AND f.proname = 'bt_index_check' AND f.pronargs = 2 AND has_function_privilege(f.oid, 'EXECUTE'))"""
_TREES = """SELECT c.oid::bigint, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
    WHERE c.relnamespace = 'bursar'::regnamespace AND c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid
    ORDER BY c.relname"""


def check(connection: PostgresConnection, guard: Guard, findings: Findings) -> None:
    """Note what is not whole."""
    findings.checked("file", connection.execute(_RELATIONS).fetchone()[0])
    for sql, expected in (
        (_BROKEN_INDEXES, "a valid index"),
        (_UNPROVED_CONSTRAINTS, "a validated constraint"),
        (_KEYLESS, "a primary key"),
    ):
        for (name,) in connection.execute(sql):
            findings.add(Violation("file", 0, name, "", expected, "none"))
    parts = connection.execute(_KEY_PARTS).fetchone()[0]
    if parts != KEY_PARTS:
        findings.add(Violation("file", 0, "event_key", "partitions", str(KEY_PARTS), str(parts)))
    _check_trees(connection, guard, findings)


def _check_trees(connection: PostgresConnection, guard: Guard, findings: Findings) -> None:
    """Let `amcheck` hold each index against its table."""
    found = connection.execute(_AMCHECK).fetchone()
    if found is None:
        return
    for oid, name in connection.execute(_TREES):
        with guard() as said:
            connection.execute(f'SELECT "{found[0]}".bt_index_check({int(oid)}::oid::regclass, true)')
        for message in said:
            findings.add(Violation("file", 0, name, "", "a whole index", message))
