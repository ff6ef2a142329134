"""Bring a SQLite file to the newest schema, whole or not at all.

An existing file is brought forward by alembic, step by step. An empty one gets the same
steps' statements directly: loading alembic would double the time of the very first start.
`tests/storage/test_migrate.py` holds the two ways against each other.
"""

import sqlite3
from importlib.resources import files
from pathlib import Path

from bursar.core.errors import InvalidInput
from bursar.storage.migrations import HEAD
from bursar.storage.migrations.steps import sqlite_steps


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

    Raises:
        InvalidInput: A newer release has written it.
    """
    version = schema_version(connection)
    if version == HEAD:
        return False
    if version is not None and version > HEAD:
        raise InvalidInput(
            f"{path} has schema {version}, which is newer than this release knows ({HEAD}); "
            "use the release that wrote it, or a newer one"
        )
    if version is None:
        _create(connection)
    else:
        upgrade(path)
    return True


def _create(connection: sqlite3.Connection) -> None:
    """Run every step's statements on an empty file and mark it, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in sqlite_steps():
            for statement in step.sqlite:
                connection.execute(statement)
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version (version_num) VALUES (?)", (HEAD,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def upgrade(path: Path) -> None:
    """Run alembic's missing steps on `path`; public for the test that compares the ways."""
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
