"""Which engine the settings ask for, and which one an address means."""

from collections.abc import Callable
from pathlib import Path

from bursar.core.errors import InvalidInput
from bursar.pricing.aliases import canonical
from bursar.settings import Settings
from bursar.storage.sql.engine import Engine
from bursar.storage.sql.verify_ports import Snapshots
from bursar.storage.sqlite.engine import SqliteEngine
from bursar.storage.sqlite.snapshots import SqliteSnapshots
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring.places import DatabasePlace, FilePlace, Place


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


def ledger_snapshots(settings: Settings) -> Snapshots:
    """Return what proves the ledger of `settings`, which nobody here needs to have open."""
    if settings.database_url:
        from bursar.storage.postgres.snapshots import PostgresSnapshots  # noqa: PLC0415 - see `_engine`

        return PostgresSnapshots(settings.database_url)
    return SqliteSnapshots(settings.data_dir / DATABASE_NAME)


def canonical_names(provider: str, model: str) -> tuple[str, str]:
    """Return provider and model as the price list has them."""
    named = canonical(provider, model)
    return (named.provider, named.model)


def place_of(settings: Settings) -> Place:
    """Return where the ledger of `settings` lies."""
    return DatabasePlace(settings.database_url) if settings.database_url else FilePlace(settings.data_dir)


def place_at(address: str, *, field: str) -> Place:
    """Return the place that an address means.

    Args:
        address: `postgresql://…`, or `sqlite:` and a data directory or the ledger's file in it.
        field: The name of what holds it, for the error.

    Raises:
        InvalidInput: It is none of these.
    """
    if address.startswith(("postgresql://", "postgres://")):
        return DatabasePlace(address)
    kind, _, rest = address.partition(":")
    if kind != "sqlite" or not rest.removeprefix("//"):
        raise InvalidInput(
            "name a ledger as sqlite:DIRECTORY or postgresql://USER@HOST/DATABASE", field=field
        )
    path = Path(rest.removeprefix("//"))
    if path.name == DATABASE_NAME:
        return FilePlace(path.parent)
    if path.is_file():
        raise InvalidInput(
            f"{path} is a file, and no data directory; `bursar restore` brings a backup back", field=field
        )
    return FilePlace(path)
