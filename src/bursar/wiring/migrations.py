"""The schema of the ledger that the settings name: how far it is, and bringing it further.

bursar migrate  →  schema_states, migrate  →  the file in data_dir, or the database of database_url
"""

import asyncio
from collections.abc import Callable

from bursar.settings import Settings
from bursar.storage.migrations.steps import Phase, Step, StepState, sqlite_steps
from bursar.storage.sqlite.connection import FileLock, open_writer
from bursar.storage.sqlite.migrate import migrate as migrate_file
from bursar.storage.sqlite.state import file_state
from bursar.storage.sqlite.store import DATABASE_NAME, LOCK_NAME


def schema_states(settings: Settings) -> list[StepState]:
    """Return every step of this release, and when it was run; changes nothing.

    Raises:
        InvalidInput, Unavailable: The database cannot be asked.
    """
    if settings.database_url:
        # Only here: a file needs no driver.
        from bursar.storage.postgres import migrate as postgres  # noqa: PLC0415

        return asyncio.run(postgres.states(settings.database_url))
    path = settings.data_dir / DATABASE_NAME
    reached = (file_state(path).schema or "") if path.exists() else ""
    return [StepState(step, 0 if step.name <= reached else None) for step in sqlite_steps()]


def migrate(settings: Settings, phase: Phase | None, say: Callable[[str], object]) -> list[Step]:
    """Run the steps that are missing, and return them.

    Args:
        settings: Whose ledger.
        phase: Only those of one phase; a file gets both, since no other process works on it.
        say: Hears each step as it begins, and what is waited for.

    Raises:
        Conflict: `post` is asked for while steps of `pre` are missing.
        InvalidInput, Unavailable: It cannot be done here and now; what was done stays done.
    """
    if settings.database_url:
        # Only here: a file needs no driver.
        from bursar.storage.postgres import migrate as postgres  # noqa: PLC0415

        return asyncio.run(postgres.migrate(settings.database_url, phase=phase, say=say))
    return _migrate_file(settings, say)


def _migrate_file(settings: Settings, say: Callable[[str], object]) -> list[Step]:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(settings.data_dir / LOCK_NAME)
    lock.acquire()
    try:
        missing = [step for step, applied_at in schema_states(settings) if applied_at is None]
        for step in missing:
            say(f"{step.name} {step.phase}: {step.title}")
        path = settings.data_dir / DATABASE_NAME
        writer = open_writer(path)
        try:
            migrate_file(path, writer)
        finally:
            writer.close()
        return missing
    finally:
        lock.release()
