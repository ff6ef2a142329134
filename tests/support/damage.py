"""Damage to a ledger, done behind the product's back by one text for both engines."""

import re
import sqlite3
from contextlib import closing

from support.engines import Database, PostgresDatabase, SqliteDatabase

# What SQLite has and the damage uses, and no CHECK that would refuse it.
_IN_POSTGRES = """
CREATE OR REPLACE FUNCTION zeroblob(size integer) RETURNS bytea LANGUAGE sql
    AS $$ SELECT decode(repeat('00', size), 'hex') $$;
CREATE OR REPLACE FUNCTION randomblob(size integer) RETURNS bytea LANGUAGE sql
    AS $$ SELECT decode(left(repeat(md5(random()::text), size), 2 * size), 'hex') $$;
DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
        WHERE contype = 'c' AND coninhcount = 0 AND connamespace = 'bursar'::regnamespace
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.place, one.conname); END LOOP;
END $$;
"""
_BYTES = re.compile(r"\bx'([0-9a-f]*)'")


def inflict(database: Database, sql: str) -> int:
    """Run statements that nothing refuses; return how many rows they changed, in the end at least."""
    if isinstance(database, SqliteDatabase):
        with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.executescript(sql)
            return connection.total_changes
    assert isinstance(database, PostgresDatabase)
    prepare(database)
    return database.change(_BYTES.sub(r"'\\x\1'::bytea", sql))


def prepare(database: PostgresDatabase) -> None:
    """Take the CHECKs away and give the functions that the damage uses."""
    database.run_script(_IN_POSTGRES)
