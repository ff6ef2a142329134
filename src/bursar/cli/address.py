"""Where a running server is found: `server.json` in its data directory, and what proves that it is alive.

Of a ledger file the lock is what counts: the kernel frees it with the process, so an address
that a dead server left behind is known for what it is. A database that several processes
share has no lock; there the address counts while its process lives, and only for the
database that it names. Of several servers with one data directory the last one is found.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bursar.core.addresses import without_password
from bursar.core.errors import Unavailable
from bursar.core.time import system_clock, text_from_micros
from bursar.settings import Settings
from bursar.storage.sqlite.connection import FileLock
from bursar.storage.sqlite.store import LOCK_NAME

ADDRESS_NAME = "server.json"
OPERATOR_TOKEN_NAME = "operator.token"  # noqa: S105 - a file's name, as `wiring` writes it

LISTENING_S = 1.0
"""How long a server on this machine may take to accept a connection."""


class ServerAddress(msgspec.Struct, frozen=True):
    """What a running server leaves in its data directory.

    Attributes:
        database: Of a server of a shared database its address without the password, else empty.
    """

    url: str
    pid: int
    started_at: str
    database: str = ""


def running_address(settings: Settings) -> ServerAddress | None:
    """Return the address of a server of that very ledger, None for what a dead one left."""
    address = read_address(settings.data_dir)
    if address is None or address.database != without_password(settings.database_url):
        return None
    try:
        os.kill(address.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, as somebody else
    return address


def read_address(data_dir: Path) -> ServerAddress | None:
    """Return the address that lies in `data_dir`, None when there is none that can be read."""
    try:
        return msgspec.json.decode((data_dir / ADDRESS_NAME).read_bytes(), type=ServerAddress)
    except (OSError, msgspec.MsgspecError):
        return None


def is_listening(address: ServerAddress) -> bool:
    """Whether somebody takes connections there: the process may have another's number by now."""
    parts = urlsplit(address.url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), LISTENING_S):
            return True
    except OSError:
        return False


def leave_address(settings: Settings, url: str) -> None:
    """Leave this process's address, readable by its owner only, whole or not at all."""
    now = text_from_micros(system_clock())
    address = ServerAddress(url, os.getpid(), now, without_password(settings.database_url))
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.data_dir / ADDRESS_NAME
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(address))
    draft.replace(path)


def remove_address(data_dir: Path) -> None:
    """Take this process's address away; another's stays, and none is harmless."""
    address = read_address(data_dir)
    if address is not None and address.pid == os.getpid():
        (data_dir / ADDRESS_NAME).unlink(missing_ok=True)


def is_locked(data_dir: Path) -> bool:
    """Whether a process holds the data directory at this moment."""
    if not (data_dir / LOCK_NAME).exists():
        return False
    lock = FileLock(data_dir / LOCK_NAME)
    try:
        lock.acquire()
    except Unavailable:
        return True
    lock.release()
    return False
