"""Bring a SQLite file to the newest schema, whole or not at all."""

import sqlite3
from importlib.resources import files
from pathlib import Path

from bursar.storage.migrations import HEAD


def schema_version(connection: sqlite3.Connection) -> str | None:
    """Return the step the file stands at, None for an empty file."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    return None if row is None else str(row[0])


def migrate(path: Path, connection: sqlite3.Connection) -> bool:
    """Run the missing steps on `path`; return whether there were any.

    The caller holds the data directory's lock, so no other process migrates meanwhile.
    All steps run in one transaction: a crash in the middle leaves the old schema.
    """
    if schema_version(connection) == HEAD:
        return False
    # Only here: the import costs more than opening the file.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, event, pool  # noqa: PLC0415

    engine = create_engine(f"sqlite:///{path}", poolclass=pool.NullPool)

    @event.listens_for(engine, "connect")
    def manual_transactions(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None

    @event.listens_for(engine, "begin")
    def take_write_lock(begun: object) -> None:
        begun.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    config = Config()
    config.set_main_option("script_location", str(files("bursar.storage.migrations")))
    with engine.begin() as opened:
        config.attributes["connection"] = opened
        command.upgrade(config, "head")
    engine.dispose()
    return True
