"""Which engine the settings ask for."""

from collections.abc import Callable

from bursar.pricing.aliases import canonical
from bursar.settings import Settings
from bursar.storage.sql.engine import Engine
from bursar.storage.sqlite.engine import SqliteEngine


def open_engine(settings: Settings, clock: Callable[[], int]) -> Engine:
    """Return the open database of `settings`; `clock` gives microseconds UTC.

    Raises:
        Unavailable: Another process has the file open, or the database does not answer.
        InvalidInput: The database cannot keep what we promise; the sentence says why.
    """
    engine = _engine(settings, clock)
    engine.open()
    return engine


def _engine(settings: Settings, clock: Callable[[], int]) -> Engine:
    if settings.database_url:
        # Only here: a file needs no driver.
        from bursar.storage.postgres.engine import PostgresEngine  # noqa: PLC0415

        return PostgresEngine(
            settings.database_url,
            clock=clock,
            canonicalise=canonical_names,
            connections=settings.database_connections,
            is_pooled=settings.database_pooled,
        )
    return SqliteEngine(settings.data_dir, clock=clock, canonicalise=canonical_names)


def canonical_names(provider: str, model: str) -> tuple[str, str]:
    """Return provider and model as the price list has them."""
    named = canonical(provider, model)
    return (named.provider, named.model)
