"""Prove a whole ledger, whatever it lies in.

a file, or Settings  →  the engine's snapshots (`engines`)  →  VerifyReport
"""

from collections.abc import Callable
from pathlib import Path

from bursar.ledger.verification import VerifyReport
from bursar.settings import Settings
from bursar.storage.sql.verify import verify
from bursar.storage.sqlite import snapshots
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring.engines import ledger_snapshots

Progress = Callable[[int, int], None]
"""Called with how many events are proved and how many there are."""


def verify_file(path: Path, progress: Progress | None = None) -> VerifyReport:
    """Prove the file at `path`, or the one in the data directory `path`.

    Works beside a running server and on a backup; writes nothing.

    Raises:
        InvalidInput: No such file, not a ledger, or of another release's schema.
        Unavailable: It cannot be read here, for example because its write-ahead log cannot.
    """
    return snapshots.verify_file(path / DATABASE_NAME if path.is_dir() else path, progress)


def verify_ledger(settings: Settings, progress: Progress | None = None) -> VerifyReport:
    """Prove the ledger that `settings` name, beside any number of servers; writes nothing.

    Raises:
        InvalidInput: There is no ledger, or one of another release's schema.
        Unavailable: It cannot be read here and now, or not to its end.
    """
    return verify(ledger_snapshots(settings), progress)
